"""What a person sees: the pages in a real browser, live and without JavaScript.  Results as TAP; called by page.sh.

usage: page_browser.py LINK-OF-A-RUN GATE-FOLDER SCREENSHOTS LINK-OF-A-RUN-TO-CANCEL

The run prints a line and a metric for each gate that opens (the file gate1, gate2, ...), and ends with the last.
"""
import os
import sys
import time

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

SECONDS = 30


def browser(javascript=True):
    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,1400"):
        options.add_argument(flag)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def ok(what, good, seen=""):
    print("%s - %s" % ("ok" if good else "not ok", what))
    if not good:
        print("#   seen: %r" % (seen,))
    sys.stdout.flush()


def until(fn):
    """The first true value of fn, or its last."""
    end, value = time.monotonic() + SECONDS, None
    while time.monotonic() < end:
        value = fn()
        if value:
            break
        time.sleep(0.05)
    return value


def text(driver, selector, what="innerText"):
    """In one step: an element that was found may be replaced before it is asked."""
    return driver.execute_script("const e = document.querySelector(arguments[0]); return e ? String(e[arguments[1]] || '') : ''",
                                 selector, what)


def curve(driver):
    return driver.execute_script("const e = document.querySelector('#metrics svg path'); return e ? e.getAttribute('d') : ''")


def has(driver, selector, part):
    return lambda: part in text(driver, selector)


def live(driver, link, gates, shots):
    driver.get(link)
    ok("the link opens the page of the run", until(has(driver, "h1", "Running")), driver.page_source[:500])
    ok("...and its address holds no token", "token" not in driver.current_url, driver.current_url)
    ok("it is drawn: style and script have come", driver.execute_script("return document.styleSheets[0].cssRules.length") > 10)
    ok("it shows the log so far", until(has(driver, "#log", "line 1 <script>alert(1)</script>")), text(driver, "main"))
    driver.execute_script("window.sameDocument = true")
    open(os.path.join(gates, "gate1"), "w").close()
    ok("a new line comes by itself", until(has(driver, "#log", "line 2")), text(driver, "#log"))
    ok("...and so does the curve", until(lambda: curve(driver)))
    ok("...which says what it shows", until(lambda: "loss: 50 values from 0.02 to 1" in text(driver, "#metrics svg title", "textContent")),
       text(driver, "#metrics"))
    driver.execute_script("""const svg = document.querySelector("#metrics svg"), box = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.right - 1, clientY: box.top + 5 }))
window.said = document.querySelector("#metrics .range span:last-child").textContent""")
    said = driver.execute_script("return window.said")
    ok("...and at a place", said == "\u2248 0.02 at 50 of 50", said)
    driver.save_screenshot(os.path.join(shots, "page-running.png"))
    open(os.path.join(gates, "gate2"), "w").close()
    ok("the state changes by itself", until(has(driver, "#state", "Completed")), text(driver, "h1"))
    ok("...and the files appear", until(has(driver, "main", "outputs/model.txt")), text(driver, "main"))
    ok("...without another page", driver.execute_script("return window.sameDocument === true"))
    ok("no markup of the job became markup of the page",
       not driver.find_elements(By.CSS_SELECTOR, "main script, main b i") and "<i>tag</i>" in text(driver, "main"), text(driver, "main"))
    driver.save_screenshot(os.path.join(shots, "page-completed.png"))
    size = os.path.getsize(os.path.join(shots, "page-completed.png"))
    ok("the screenshot is kept, and not blank", size > 20000, size)
    driver.find_element(By.LINK_TEXT, "Trainyard").click()
    ok("the list has the run", until(has(driver, "table", "Completed")), text(driver, "main"))
    driver.set_window_size(420, 900)
    driver.save_screenshot(os.path.join(shots, "page-list-narrow.png"))
    errors = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    ok("the browser has nothing to complain of", not errors, errors)


def shown(driver, identity):
    return driver.execute_script("const e = document.getElementById(arguments[0]); return Boolean(e) && !e.hidden", identity)


def ended_by_hand(driver, link, shots):
    driver.get(link)
    ok("a run that goes on can be canceled", until(lambda: shown(driver, "cancel")))
    ok("...and its page is no wider than a phone", driver.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
    driver.execute_script("window.confirm = () => false; document.getElementById('cancel').click()")
    driver.execute_script("window.asked = 0; window.confirm = () => { window.asked++; return true; }")
    driver.execute_script("document.getElementById('cancel').click()")
    ok("...after a question", until(lambda: driver.execute_script("return window.asked") == 1))
    ok("...and ends", until(has(driver, "#state", "Canceled")), text(driver, "h1"))
    ok("...after which there is nothing to cancel", until(lambda: not shown(driver, "cancel")))
    driver.find_element(By.LINK_TEXT, "Machines").click()
    ok("the machines have a page", until(has(driver, "main", "CPU slots")), text(driver, "main"))
    driver.save_screenshot(os.path.join(shots, "page-machines.png"))
    driver.find_element(By.LINK_TEXT, "Runs").click()
    ok("...which leads back to the list", until(has(driver, "h1", "Runs")), text(driver, "h1"))
    driver.execute_script("document.querySelector('.filters a[href$=Canceled]').click()")
    ok("the list can be narrowed", until(lambda: "Canceled" in text(driver, "table") and "Completed" not in text(driver, "table")),
       text(driver, "main"))


def still(driver, link):
    driver.get(link)
    ok("without JavaScript it says the same", "Completed" in text(driver, "h1") and "line 2" in text(driver, "#log"), text(driver, "main"))
    ok("...the curve too", "<path d=" in driver.page_source)
    ok("...and how to do it again", "trainyard rerun --exact" in text(driver, "main"))
    hrefs = [a.get_attribute("href") for a in driver.find_elements(By.CSS_SELECTOR, "main a")]
    ok("it links to its files", any(h.endswith("outputs/model.txt") for h in hrefs), hrefs)


def main():
    link, gates, shots, other = sys.argv[1:]
    os.makedirs(shots, exist_ok=True)
    def scripted(driver):
        live(driver, link, gates, shots)
        ended_by_hand(driver, other, shots)

    for javascript, look in ((True, scripted), (False, lambda d: still(d, link))):
        driver = browser(javascript)
        try:
            look(driver)
        finally:
            driver.quit()


main()
