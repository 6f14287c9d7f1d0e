// What makes the pages live.  Without it they are whole, and as old as their last reload.
"use strict";

const LOG_CHARS_MAX = 400000;
const AGAIN_MS = 3000;

// Fetch this page again (with `query`), and put what it has under `selector` in place of what is shown.
async function refresh(selector, query) {
    const reply = await fetch(location.pathname + query, { headers: { Accept: "text/html" } });
    if (!reply.ok)
        return;
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector(selector);
    const shown = document.querySelector(selector);
    if (fresh && shown && fresh.innerHTML !== shown.innerHTML)
        shown.replaceWith(document.adoptNode(fresh));
}

// Call fn every AGAIN_MS, while somebody looks and for as long as it is wanted; never twice at a time.
function again(fn, wanted) {
    setTimeout(async () => {
        if (!document.hidden)
            await fn().catch(() => {});
        if (wanted())
            again(fn, wanted);
    }, AGAIN_MS);
}

function plain(text) {
    // eslint-disable-next-line no-control-regex
    return text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b./g, "").replace(/\r(?!\n)/g, "\n")
        .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}

function duration(seconds) {
    const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60);
    if (s < 60)
        return s + " s";
    if (h < 1)
        return m + " min " + s % 60 + " s";
    return h < 24 ? h + " h " + m % 60 + " min" : Math.floor(h / 24) + " d " + h % 24 + " h";
}

// The time that the run has taken goes on while somebody looks.
function tick(body) {
    const took = document.getElementById("took");
    if (body.dataset.going === "")
        return;
    if (took?.dataset.since)
        took.textContent = duration(Math.max(0, (Date.now() - Date.parse(took.dataset.since)) / 1000));
    setTimeout(tick, 1000, body);
}

function offerCancel(body) {
    const button = document.getElementById("cancel");
    button.hidden = false;
    button.addEventListener("click", async () => {
        if (!confirm("Ask this run to stop? What it has written is kept."))
            return;
        button.disabled = true;
        const reply = await fetch("/api/v1/runs/" + encodeURIComponent(body.dataset.run) + "/cancel", { method: "POST" });
        if (!reply.ok) {
            const said = await reply.json().catch(() => null);
            document.getElementById("why").textContent = said?.error?.message ?? "It could not be asked to stop.";
            button.disabled = false;
        }
    });
}

function followRun(body) {
    const log = document.getElementById("log"), state = document.getElementById("state"), why = document.getElementById("why");
    const source = new EventSource("/api/v1/runs/" + encodeURIComponent(body.dataset.run) + "/follow?after=" + body.dataset.after
        + "&log=" + encodeURIComponent(body.dataset.log));
    const decoder = new TextDecoder();

    source.addEventListener("log", (event) => {
        const data = JSON.parse(event.data);
        const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
        const text = data.text ?? decoder.decode(Uint8Array.from(atob(data.base64), (c) => c.charCodeAt(0)), { stream: true });
        document.getElementById("no-log").hidden = true;
        log.hidden = false;
        log.append(plain(text));
        if (log.textContent.length > LOG_CHARS_MAX)
            log.textContent = log.textContent.slice(-LOG_CHARS_MAX / 2);
        if (atEnd)
            log.scrollTop = log.scrollHeight;
    });
    source.addEventListener("state", (event) => {
        const data = JSON.parse(event.data);
        state.textContent = data.state;
        state.className = "state " + data.state;
        document.title = data.state + " · " + body.dataset.name;
        why.textContent = data.why ?? "";
        if (data.at && data.state === "Running")
            document.getElementById("took").dataset.since ||= data.at;
    });
    source.addEventListener("end", () => {
        source.close();
        body.dataset.going = "";
        refresh("main", location.search).then(toEnd);
    });
    again(async () => {
        await refresh("#metrics", "?part=metrics");
        if (document.getElementById("system")?.open)
            await refresh("#system-charts", "?part=system");
    }, () => body.dataset.going !== "");
}

// What a curve says under the pointer.  It is read off the drawing (html_chart.c: 320 x 110, high values above), so it is a little rounded.
function pointedAt(svg, clientX) {
    const points = [...svg.querySelector("path").getAttribute("d").matchAll(/([\d.]+) ([\d.]+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
    const box = svg.getBoundingClientRect(), n = Number(svg.dataset.n), low = Number(svg.dataset.low), high = Number(svg.dataset.high);
    const x = (clientX - box.left) / box.width * 324 - 2;
    const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    const value = high > low ? high - near[1] / 110 * (high - low) : low;
    return "≈ " + Number(value.toPrecision(3)) + " at " + Math.round(near[0] / 320 * (n - 1) + 1) + " of " + n;
}

document.addEventListener("pointermove", (event) => {
    const svg = event.target.closest?.(".chart svg"), said = svg?.parentElement.querySelector(".range span:last-child");
    if (said)
        said.textContent = pointedAt(svg, event.clientX);
});
document.addEventListener("pointerout", (event) => {
    const svg = event.target.closest?.(".chart svg");
    if (svg && !svg.contains(event.relatedTarget))
        svg.parentElement.querySelector(".range span:last-child").textContent = svg.dataset.n + " values";
});

function toEnd() {
    const log = document.getElementById("log");
    if (log)
        log.scrollTop = log.scrollHeight;
}

// Capturing: the event does not bubble, and what it happens to may have been put in place of another.
document.addEventListener("toggle", (event) => {
    if (event.target.id === "system" && event.target.open)
        refresh("#system-charts", "?part=system").catch(() => {});
}, true);

toEnd();
if (document.body.dataset.run && document.body.dataset.going) {
    followRun(document.body);
    offerCancel(document.body);
    tick(document.body);
} else if (document.body.dataset.list)
    again(() => refresh("main", location.search), () => true);
