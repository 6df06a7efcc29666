// Visits the page of `make web` in headless Chromium as a person does, with clicks, keys and files, and keeps what it
// answered: node tests/web.js CHROMIUM PAGE.html FOLDER. Chromium's DevTools protocol goes through a pipe, so nothing
// but node is needed. Prints a line a test, as tests/try.sh does. Pictures go beside the page, what check_web.sh
// compares with native programs into FOLDER.
"use strict";
const fs = require("fs"), path = require("path"), { spawn } = require("child_process");
const [program, page, folder] = process.argv.slice(2);
const chromium = spawn(program, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--remote-debugging-pipe", "--user-data-dir=" + path.join(folder, "profile"), "about:blank"],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const waiting = new Map(), errors = [], requests = [];
let number = 0, session, rest = "", failures = 0;

chromium.stdio[4].on("data", data => {
    const parts = (rest + data).split("\0");
    rest = parts.pop();
    for (const part of parts) {
        const message = JSON.parse(part), { method, params } = message;
        const { done, failed } = waiting.get(message.id) || {};
        waiting.delete(message.id);
        if (message.error) failed(new Error(message.error.message));
        else if (done) done(message.result);
        if (method === "Runtime.exceptionThrown") errors.push(JSON.stringify(params.exceptionDetails));
        if (method === "Runtime.consoleAPICalled" && params.type === "error") errors.push(JSON.stringify(params.args));
        if (method === "Network.requestWillBeSent") requests.push(params.request.url);
    }
});
chromium.on("error", error => { console.log(`FAIL chromium_starts: ${error.message}`); process.exit(1); });
function end(code) {
    chromium.on("exit", () => process.exit(code));
    chromium.kill("SIGKILL");
}
setTimeout(() => { console.log("FAIL the_visit_ends: 400 s are over"); end(1); }, 400e3);

function send(method, params = {}) {
    return new Promise((done, failed) => {
        waiting.set(++number, { done, failed });
        chromium.stdio[3].write(JSON.stringify({ id: number, method, params, sessionId: session }) + "\0");
    });
}
async function evaluate(expression) {
    const { result, exceptionDetails } = await send("Runtime.evaluate",
        { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception.description}`);
    return result.value;
}
const pause = ms => new Promise(done => setTimeout(done, ms));
async function until(expression, seconds = 120) {
    for (let i = 0; i < seconds * 10; i++, await pause(100)) if (await evaluate(expression)) return;
    throw new Error(`${expression} did not become true in ${seconds} s`);
}
function expect(holds, what) {
    if (!holds) throw new Error(what);
}
const text = id => evaluate(`document.getElementById("${id}").textContent`);

// ---- What a visitor does ----

// The middle of an element, or a share of its width and height, on the screen.
function place(selector, x = 0.5, y = 0.5) {
    return evaluate(`(() => { const e = document.querySelector(${JSON.stringify(selector)});
        e.scrollIntoView({ block: "center", behavior: "instant" });
        const b = e.getBoundingClientRect();
        return { x: b.left + ${x} * b.width, y: b.top + ${y} * b.height }; })()`);
}
const mouse = (type, at, held = 0) => send("Input.dispatchMouseEvent",
    { type, ...at, button: type === "mouseMoved" && !held ? "none" : "left", buttons: held, clickCount: 1 });
async function click(selector, x, y) {
    const at = await place(selector, x, y);
    await mouse("mouseMoved", at);
    await mouse("mousePressed", at, 1);
    await mouse("mouseReleased", at);
}
async function drag(selector, points) {
    const [first, ...others] = await Promise.all(points.map(p => place(selector, ...p)));
    await mouse("mouseMoved", first);
    await mouse("mousePressed", first, 1);
    for (const at of others) await mouse("mouseMoved", at, 1);
    await mouse("mouseReleased", others[others.length - 1]);
}
const codes = { ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40, " ": 32, Enter: 13, Tab: 9 };
async function press(key, times = 1) {
    const event = { key, code: key === " " ? "Space" : key, windowsVirtualKeyCode: codes[key],
        text: { " ": " ", Enter: "\r" }[key] };
    for (let i = 0; i < times; i++) {
        await send("Input.dispatchKeyEvent", { type: event.text ? "keyDown" : "rawKeyDown", ...event });
        await send("Input.dispatchKeyEvent", { type: "keyUp", ...event, text: undefined });
    }
}
const focus = selector => evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`);
async function choose(id, file) {
    const { result } = await send("Runtime.evaluate", { expression: `document.getElementById("${id}")` });
    await send("DOM.setFileInputFiles", { files: [file], objectId: result.objectId });
}
async function drop(selector, files) {
    const at = await place(selector), data = { items: [], files, dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await send("Input.dispatchDragEvent", { type, ...at, data });
}
async function picture(name, whole = true) {
    const size = (await send("Page.getLayoutMetrics")).cssContentSize;
    const { data } = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole,
        clip: whole ? { x: 0, y: 0, width: size.width, height: size.height, scale: 1 } : undefined });
    fs.writeFileSync(path.join(path.dirname(page), name + ".png"), Buffer.from(data, "base64"));
    return data;
}
async function screen(width, height, scheme) {
    await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 });
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await pause(200);
}
const keep = (name, content) => fs.writeFileSync(path.join(folder, name), content);
const keepNumbers = async (name, expression) =>
    keep(name, Buffer.from(Float64Array.from(await evaluate(expression)).buffer));

async function test(name, work) {
    const started = Date.now();
    try {
        await work();
        console.log(`ok   ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
        failures++;
        await picture("failed", false).catch(() => {});
        console.log(`    ${error.message}\nFAIL ${name}`);
    }
}

async function visit() {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Network", "DOM"]) await send(domain + ".enable");
    await screen(1100, 900, "light");
    await send("Page.navigate", { url: "file://" + path.resolve(page) });
    await until(`document.readyState === "complete" && !!document.querySelector("#tape rect")`);

    await test("a_rubbish_table_is_told_by_the_programs_sentence", async () => {
        await choose("ratios", path.join(folder, "rubbish.csv"));
        await choose("losses", path.join(folder, "losses.csv"));
        await until(`!$("find").disabled`);
        await click("#find");
        await until(`!$("mixture-error").hidden`);
        keep("page/rubbish.json", await evaluate("answers.page_mix"));
        expect(/^rubbish\.csv line 3, column code/.test(await text("mixture-error")), await text("mixture-error"));
        expect(await evaluate(`$("mixture-result").hidden`), "a result is shown all the same");
    });
    await test("a_search_can_be_cancelled_and_begun_again", async () => {
        // At the first report of progress, so that it is never too late.
        await evaluate(`new MutationObserver((_, me) => { if ($("mixture-stage").textContent !== "starting") {
            me.disconnect(); $("mixture-cancel").click(); window.cancelled = true; } })
            .observe($("mixture-stage"), { childList: true })`);
        await click("#sample");
        await until(`window.cancelled && $("mixture-busy").hidden`);
        expect(await evaluate(`$("mixture-result").hidden`), "it has a result");
        expect(await evaluate(`$("mixture-error").hidden`), await text("mixture-error"));
    });
    await test("the_sample_gives_a_mixture_with_prices_and_a_report", async () => {
        await click("#sample");
        await until(`!$("mixture-result").hidden && !!answers.page_predict`);
        keep("page/mix.json", await evaluate("answers.page_mix"));
        const files = "Object.entries(found.out).map(([n, b]) => [n.slice(4), new TextDecoder().decode(b)])";
        for (const [name, content] of await evaluate(files)) keep("page/" + name, content);
        expect(/0\.507 \(token budget\)/.test(await text("mixture-table")), await text("mixture-table"));
        expect(await evaluate(`$("report").srcdoc.includes("The best mixture of 5 domains")`), "no report");
    });
    await test("a_dragged_weight_moves_the_predicted_losses", async () => {
        const before = await text("predictions");
        await drag("#weight-0", [[0.28, 0.5], [0.4, 0.5], [0.5, 0.5]]);
        await until("busy === 0");
        expect(await text("predictions") !== before, "the predictions stay");
        expect(Math.abs(await evaluate("weights[0]") - 0.5) < 0.05, `the weight is ${await evaluate("weights[0]")}`);
    });
    await test("keys_move_a_weight_and_the_others_make_room", async () => {
        const before = await evaluate("weights[0]");
        await focus("#weight-0");
        await press("ArrowLeft", 4);
        await until("busy === 0");
        const after = await evaluate("weights");
        expect(Math.abs(before - after[0] - 0.02) < 0.006, `from ${before} to ${after[0]}`);
        expect(Math.abs(after.reduce((a, b) => a + b) - 1) < 1e-9, "they do not sum to 1");
        await keepNumbers("weights.bin", "(s => weights.map(w => w / s))(weights.reduce((a, b) => a + b, 0))");
        keep("page/predict.json", await evaluate("answers.page_predict"));
    });
    await test("dropped_files_are_told_apart", async () => {
        await drop("#drop", ["losses.csv", "ratios.csv"].map(name => path.join(folder, name)));
        await until(`$("ratios-name").textContent === "ratios.csv"`, 10);
        expect(await text("losses-name") === "losses.csv", "losses are taken for something else");
        expect(await text("domains-name") === "Choose a CSV", "domains of before are still there");
        await click("#find");
        await until(`!$("mixture-result").hidden`);
        expect(await evaluate("found.report.active.length") === 0, "without domains there is no budget");
        await click("#report-details summary");
        await place("#report");
        await pause(1000);
        await picture("report-in-page", false);
    });

    await test("experts_train_before_ones_eyes", async () => {
        await evaluate(`{ const timer = setInterval(() => { if (lesson && lesson.step >= 20) {
            clearInterval(timer); $("pause").click(); } }, 1); }`);
        await click("#train");
        await until(`lesson && lesson.step >= 20 && !$("train").disabled`);
        const at = await evaluate("lesson.step");
        await pause(500);
        expect(at < 250 && at === await evaluate("lesson.step"), `from step ${at} on it goes on`);
        await click("#train");
        await until("lesson.step === lesson.steps", 200);
        keep("page/lesson.json", await evaluate("answers.page_lesson_go"));
        expect(await evaluate(`document.querySelectorAll("#predicted polygon").length`) > 200, "there is no surface");
    });
    await test("the_ring_is_dragged_and_moved_by_keys", async () => {
        await drag("#predicted", [[0.5, 0.6], [0.5, 0.5], [0.5, 0.3]]);
        const high = await evaluate("mixture[0]"), before = await text("experts-at");
        expect(high > 0.6, `the share of prose is ${high}`);
        await focus("#predicted");
        await press("ArrowDown", 10);
        await until("busy === 0");
        expect(await evaluate("mixture[0]") < high - 0.15, "keys do not move it");
        expect(await text("experts-at") !== before, "the predicted loss stays");
        await keepNumbers("mixture.bin", "mixture");
        keep("page/lesson_at.json", await evaluate("answers.page_lesson_at"));
    });

    await test("a_character_is_drawn_and_ten_are_made", async () => {
        await drag("#drawing", [[0.3, 0.2], [0.3, 0.5], [0.3, 0.8]]);
        await drag("#drawing", [[0.3, 0.5], [0.5, 0.35], [0.75, 0.6], [0.7, 0.8]]);
        expect(await evaluate("ink.reduce((a, b) => a + b, 0)") > 200, "there is no ink");
        await click("#make");
        await until("answers.made && answers.made.length === 10");
        keep("ink.bin", Buffer.from(await evaluate("[...ink]")));
        keep("page/draw.json", await evaluate("answers.page_draw"));
        (await evaluate("answers.made")).forEach((answer, i) => keep(`page/make${i}.json`, answer));
        expect(new Set(await evaluate("answers.made")).size === 10, "some are the same");
    });
    await test("z_changes_the_first_image", async () => {
        const before = await evaluate("pictures[0].toDataURL()"), second = await evaluate("pictures[1].toDataURL()");
        await focus("#z-0");
        await press("ArrowRight", 20);
        await until(`pictures[0].toDataURL() !== ${JSON.stringify(before)}`);
        expect(await evaluate("pictures[1].toDataURL()") === second, "others change, too");
    });
    await test("keys_draw", async () => {
        await click("#clear");
        expect(await evaluate("ink.every(x => x === 0)"), "it is not cleared");
        await focus("#drawing");
        await press(" ");
        await press("ArrowRight", 5);
        expect(await evaluate("ink.some(x => x === 1)"), "there is no ink");
        await click("#clear");
        await click("#example");
        await until("ink.some(x => x === 1)");
        await click("#new-z");
        await until("answers.made.length === 10 && !making");
    });

    await test("a_derivative_is_stepped_through", async () => {
        await evaluate(`$("expression").focus()`);
        await press("ArrowDown");
        await until("tape.nodes.length === 8");
        for (let i = 0; i < 3; i++) await click("#forth");
        await click("#back");
        expect(await evaluate("tapeStep") === 2, "two steps were to be left");
        await focus("#tape");
        await press("ArrowRight", 8);
        expect(/hands it on/.test(await text("tape-says")), await text("tape-says"));
        await focus("#leaf-0");
        await press("ArrowLeft", 3);
        await until("busy === 0");
        await keepNumbers("leaves.bin", "at");
        keep("page/tape.json", await evaluate("answers.page_tape"));
        expect(/adjoint/.test(await text("tape")), "no adjoint is shown");
    });

    let light;
    await test("light_and_dark_differ", async () => {
        light = await picture("wide-light");
        await screen(1100, 900, "dark");
        expect(await picture("wide-dark") !== light, "they are the same");
    });
    await test("nothing_is_wider_than_a_phone", async () => {
        for (const scheme of ["light", "dark"]) {
            await screen(360, 740, scheme);
            const [wide, who] = await evaluate(`(() => {
                const all = [...document.querySelectorAll("body *")].filter(e =>
                e.getBoundingClientRect().right > 361 && !e.closest(".wide, .graph, svg"));
                return [document.documentElement.scrollWidth, all.map(e => e.tagName + "#" + e.id).join(" ")]; })()`);
            expect(wide <= 360 && who === "", `${wide} pixels; ${who}`);
            await picture("phone-" + scheme);
        }
    });
    await test("the_report_fits_a_phone_and_has_a_dark_form", async () => {
        const url = "file://" + path.resolve(folder, "page/report.html"), shots = [];
        for (const scheme of ["light", "dark"]) {
            await screen(360, 740, scheme);
            await send("Page.navigate", { url });
            await until(`document.readyState === "complete" && location.href.endsWith("report.html")`);
            expect(await evaluate("document.documentElement.scrollWidth") <= 360, "it is wider than the screen");
            shots.push(await picture("report-" + scheme));
        }
        expect(shots[0] !== shots[1], "light and dark are the same");
    });
    await test("nothing_was_fetched_and_nothing_went_wrong", async () => {
        const outside = requests.filter(url => !/^(file|blob|data|about):/.test(url));
        expect(outside.length === 0, outside.join(" "));
        expect(errors.length === 0, errors.join("\n"));
    });
}

visit().then(() => end(failures > 0 ? 1 : 0), error => {
    console.log(`    ${error.stack}\nFAIL the_visit_ends`);
    end(1);
});
