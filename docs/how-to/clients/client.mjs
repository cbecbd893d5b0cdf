// Generates and saves an image: `node client.mjs "a lake at sunset" lake.png`. Needs only Node.js 18 or newer.
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";

const base = process.env.GATEWAY_URL ?? "http://127.0.0.1:8000";
const key = process.env.GATEWAY_KEY;
const [prompt, path] = process.argv.slice(2);
if (!path) {
  console.error('usage: node client.mjs "PROMPT" FILE');
  process.exit(1);
}

async function call(method, path, body, headers = {}) {
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.json();
}

// The key makes the request safe to repeat. The gateway responds as soon as the task has finished.
let task = await call("POST", "/v1/tasks", { prompt }, { "Idempotency-Key": randomUUID(), Prefer: "wait=60" });
while (!["succeeded", "failed", "canceled"].includes(task.status)) {
  task = await call("GET", `/v1/tasks/${task.id}?wait=60`);
}
if (task.status !== "succeeded") {
  console.error(task.id, task.status, task.error);
  process.exit(1);
}
const image = await fetch(task.images[0].url);
if (!image.ok) throw new Error(`${image.status}: ${await image.text()}`);
await writeFile(path, Buffer.from(await image.arrayBuffer()));
console.log(task.id, task.images[0].url);
