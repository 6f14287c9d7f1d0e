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
if (document.body.dataset.run && document.body.dataset.going)
    followRun(document.body);
else if (document.body.dataset.list)
    again(() => refresh("main", location.search), () => true);
