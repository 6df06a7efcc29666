// One page from its parts: node pack.js PAGE.html PAGE.js OUT.html NAME=FILE...
// The files stand in the page, compressed, under their names. Of a trained DAGAN the page needs the generator alone:
// the critic's numbers become zeros, which take no room.
"use strict";
const fs = require("fs"), zlib = require("zlib");
const [page, program, out, ...files] = process.argv.slice(2);

function withoutCritic(bytes) {
    const start = 8 + Number(bytes.readBigUInt64LE(0)), header = JSON.parse(bytes.subarray(8, start));
    for (const [name, tensor] of Object.entries(header)) {
        if (name.startsWith("critic.")) bytes.fill(0, start + tensor.data_offsets[0], start + tensor.data_offsets[1]);
    }
    return bytes;
}

let data = "";
for (const file of files) {
    const [name, path] = file.split("=");
    let bytes = fs.readFileSync(path);
    if (name === "generator.safetensors") bytes = withoutCritic(bytes);
    const packed = zlib.gzipSync(bytes, { level: 9 }).toString("base64");
    data += `<script type="application/gzip" class="file" data-name="${name}">${packed}</script>\n`;
}
const code = fs.readFileSync(program, "utf8");
if (/<\/script|<!--/i.test(code)) throw new Error(`${program}: cannot stand in a page`);
const parts = { "<!-- program -->": `<script type="text/plain" id="program">${code}</script>`, "<!-- files -->": data };
let text = fs.readFileSync(page, "utf8");
for (const [mark, part] of Object.entries(parts)) {
    if (!text.includes(mark)) throw new Error(`${page}: has no ${mark}`);
    text = text.replace(mark, () => part);
}
fs.writeFileSync(out, text);
console.log(`${out}: ${Buffer.byteLength(text)} bytes`);
