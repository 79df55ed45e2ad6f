// What a script written for OpenAI does, with the official client for Node: files, jobs, events, streamed chat.
// Run by tests/clients/test_openai_clients.py: reads where to go from standard input, prints what it called as JSON.
// The client is the one that `scripts/make_client_env.py openai-node` installed into the folder named in the first argument.
import assert from 'node:assert/strict';
import { File } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

globalThis.File ??= File; // Node 18 has it, under another name
const require = createRequire(join(process.argv[2], 'package.json'));
const OpenAI = require('openai');
const { toFile } = OpenAI;
const given = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: given.base_url, apiKey: given.api_key, maxRetries: 0, timeout: 30_000 });
const calls = new Set();

/** One call by name, noted. */
function call(method, ...args) {
  calls.add(method);
  const path = method.split('.');
  const name = path.pop();
  const resource = path.reduce((part, key) => part[key], client);
  return resource[name](...args);
}

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

const row = { messages: [{ role: 'user', content: 'hi' }, { role: 'assistant', content: 'hello' }] };
const rows = Array(10).fill(JSON.stringify(row) + '\n').join('');

const file = await call('files.create', { file: await toFile(Buffer.from(rows), 'train.jsonl'), purpose: 'fine-tune' });
assert.equal(file.bytes, rows.length);
assert.equal((await call('files.retrieve', file.id)).filename, 'train.jsonl');
assert.equal(await (await call('files.content', file.id)).text(), rows);
assert.ok((await all(call('files.list', { limit: 1, purpose: 'fine-tune' }))).some((f) => f.id === file.id));

const job = await call('fineTuning.jobs.create', { model: 'gpt-4o-mini-2024-07-18', training_file: file.id, suffix: 'node' });
assert.equal(job.status, 'validating_files');
assert.equal((await call('fineTuning.jobs.cancel', job.id)).status, 'cancelled');
await assert.rejects(call('fineTuning.jobs.retrieve', 'ftjob-nothing'), OpenAI.NotFoundError);
const done = await call('fineTuning.jobs.retrieve', given.job);
assert.deepEqual([done.status, done.fine_tuned_model], ['succeeded', given.model]);
assert.ok((await all(call('fineTuning.jobs.list', { limit: 1 }))).some((j) => j.id === done.id));
const events = await all(call('fineTuning.jobs.listEvents', done.id, { limit: 2 }));
assert.equal(events[0].message, 'The job has successfully completed');
assert.equal(events.at(-1).message, `Created fine-tuning job: ${done.id}`);
const points = await all(call('fineTuning.jobs.checkpoints.list', done.id, { limit: 1 }));
assert.deepEqual(points.map((p) => p.step_number), [10, 5]);
assert.ok((await all(call('models.list'))).some((m) => m.id === given.model));

const messages = [{ role: 'user', content: 'hi' }];
const answer = await call('chat.completions.create', { model: given.model, messages });
assert.equal(answer.choices[0].message.content, 'Hello world!');
const chunks = await all(await call('chat.completions.create', { model: given.model, messages, stream: true }));
assert.equal(chunks.map((c) => c.choices[0].delta.content ?? '').join(''), 'Hello world!');
const helper = call('chat.completions.stream', { model: given.model, messages });
assert.equal(await helper.finalContent(), 'Hello world!');
const event = await call('webhooks.unwrap', given.webhook.body, given.webhook.headers, given.webhook.secret);
assert.equal(event.type, 'fine_tuning.job.succeeded');
assert.ok((await call('files.delete', file.id)).deleted);

const { version } = JSON.parse(readFileSync(join(process.argv[2], 'node_modules', 'openai', 'package.json'), 'utf8'));
console.log(JSON.stringify({ version, node: process.version, calls: [...calls].sort() }));
