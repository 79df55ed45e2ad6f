/**
 * A job that is being put together: its form in the address (so that it survives a reload and can be sent on; nothing in it is secret), the
 * request it means, what is wrong with it, and the same as calls of SDK, curl and command line. Pure.
 */

export type DraftMethod = 'supervised' | 'dpo';

/** Everything as it was typed; an empty text is "auto" or "not given". */
export interface Draft {
  training: string;
  validation: string;
  model: string;
  method: DraftMethod;
  suffix: string;
  seed: string;
  n_epochs: string;
  batch_size: string;
  learning_rate_multiplier: string;
  beta: string;
  /** Our own options by name. */
  options: Record<string, string>;
}

export interface OptionRule {
  name: string;
  label: string;
  kind: 'choice' | 'integer' | 'number' | 'yes' | 'text';
  choices?: readonly string[];
  /** What happens when it is left out. */
  auto: string;
  least?: number;
  most?: number;
  /** The only method beside which it has a meaning. */
  only?: DraftMethod;
}

/** docs/guides/training-options.md as a form. */
export const OPTIONS: readonly OptionRule[] = [
  { name: 'adapter', label: 'Adapter', kind: 'choice', choices: ['lora', 'rslora', 'dora', 'full'], auto: 'lora' },
  { name: 'rank', label: 'Rank', kind: 'integer', least: 1, most: 512, auto: '16' },
  { name: 'alpha', label: 'Alpha', kind: 'number', least: 0, most: 4096, auto: 'twice the rank' },
  { name: 'targets', label: 'Layers that learn', kind: 'text', auto: 'all-linear' },
  { name: 'quantization', label: 'Base in 4 bits', kind: 'choice', choices: ['nf4'], auto: 'no: as it is' },
  { name: 'max_length', label: 'Longest row, in tokens', kind: 'integer', least: 8, most: 1_048_576, auto: 'what the model can read, at most 4096' },
  { name: 'skip_untrained', label: 'Leave out rows of which nothing is learned', kind: 'yes', auto: 'no: the job fails and names them' },
  { name: 'schedule', label: 'Schedule of the rate', kind: 'choice', choices: ['linear', 'cosine', 'constant'], auto: 'linear' },
  { name: 'warmup_steps', label: 'Warm-up steps', kind: 'integer', least: 0, most: 1_000_000, auto: '6 % of the steps, at most 100' },
  { name: 'optimizer', label: 'Optimizer', kind: 'choice', choices: ['adamw', 'sgd', 'lion', 'adafactor'], auto: 'adamw' },
  { name: 'weight_decay', label: 'Weight decay', kind: 'number', least: 0, most: 10, auto: '0 for adapters, 0.01 for full' },
  { name: 'max_grad_norm', label: 'Longest gradient', kind: 'number', least: 0, most: 1_000_000, auto: '1' },
  { name: 'gradient_checkpointing', label: 'Less memory, more time (gradient checkpointing)', kind: 'yes', auto: 'where memory asks' },
  { name: 'neftune_alpha', label: 'Noise on embeddings (NEFTune)', kind: 'number', least: 0, most: 100, auto: 'none' },
  { name: 'prompt_loss_weight', label: 'Weight of prompts in the loss', kind: 'number', least: 0, most: 1, auto: '0: answers alone' },
  { name: 'early_stopping', label: 'Stop early when held-out loss rises', kind: 'yes', auto: 'no' },
  { name: 'keep', label: 'Which weights are kept', kind: 'choice', choices: ['last', 'best'], auto: 'last' },
  { name: 'preference_loss', label: 'Loss on pairs', kind: 'choice', choices: ['dpo', 'orpo', 'kto'], auto: 'dpo', only: 'dpo' },
  { name: 'priority', label: 'Priority in the queue', kind: 'integer', least: -2, most: 2, auto: '0' },
];

const FIELDS = ['training', 'validation', 'model', 'suffix', 'seed', 'n_epochs', 'batch_size', 'learning_rate_multiplier', 'beta'] as const;
const OPTION = 'o.';
const HYPER = ['n_epochs', 'batch_size', 'learning_rate_multiplier'] as const;

/** The options that have a meaning beside the draft's method. */
export function optionsOf({ method }: Pick<Draft, 'method'>): OptionRule[] {
  return OPTIONS.filter((rule) => rule.only === undefined || rule.only === method);
}

export function draftOf(query: URLSearchParams): Draft {
  const text = (name: string) => query.get(name) ?? '';
  const options: Record<string, string> = {};
  for (const { name } of OPTIONS) if (query.get(OPTION + name)) options[name] = text(OPTION + name);
  return {
    ...(Object.fromEntries(FIELDS.map((name) => [name, text(name)])) as Omit<Draft, 'method' | 'options'>),
    method: query.get('method') === 'dpo' ? 'dpo' : 'supervised',
    options,
  };
}

/** The parts of the query that a draft takes; null for what is not given, so that it is taken away. */
export function queryOf(draft: Draft): Record<string, string | null> {
  return {
    ...Object.fromEntries(FIELDS.map((name) => [name, draft[name] || null])),
    method: draft.method === 'dpo' ? 'dpo' : null,
    ...Object.fromEntries(OPTIONS.map(({ name }) => [OPTION + name, draft.options[name] || null])),
  };
}

type Json = string | number | boolean | string[] | { [name: string]: Json };

/** Body of `POST /v1/fine_tuning/jobs`: only what was chosen. */
export function requestOf(draft: Draft): Record<string, Json> {
  const hyper: Record<string, Json> = {};
  for (const name of HYPER) if (draft[name]) hyper[name] = Number(draft[name]);
  if (draft.method === 'dpo' && draft.beta) hyper.beta = Number(draft.beta);
  const options: Record<string, Json> = {};
  for (const rule of optionsOf(draft)) {
    const given = draft.options[rule.name];
    if (given) options[rule.name] = optionValue(rule, given);
  }
  const request: Record<string, Json> = { model: draft.model, training_file: draft.training };
  if (draft.validation) request.validation_file = draft.validation;
  if (draft.suffix) request.suffix = draft.suffix;
  if (draft.seed) request.seed = Number(draft.seed);
  if (draft.method === 'dpo' || Object.keys(hyper).length) {
    request.method = { type: draft.method, [draft.method]: Object.keys(hyper).length ? { hyperparameters: hyper } : {} };
  }
  if (Object.keys(options).length) request.luthier = options;
  return request;
}

/** The same for the forecast, which knows neither suffix nor metadata. */
export function forecastOf(draft: Draft): Record<string, Json> {
  return requestOf({ ...draft, suffix: '' });
}

/** What stands in the way, by field; the server says the rest. */
export function faultsOf(draft: Draft): Record<string, string> {
  const faults: Record<string, string> = {};
  if (!draft.training) faults.training = 'Choose a training file.';
  if (!draft.model) faults.model = 'Choose a model to start from.';
  if (draft.training && draft.training === draft.validation) faults.validation = 'The validation file is the training file: it would measure memory only.';
  const bounds: [keyof Draft & string, string, number, number, boolean][] = [
    ['n_epochs', 'Epochs', 1, 50, true],
    ['batch_size', 'Batch size', 1, 256, true],
    ['learning_rate_multiplier', 'Learning rate multiplier', 0, 1000, false],
    ['beta', 'Beta', 0, 2, false],
    ['seed', 'Seed', 0, 2 ** 31 - 1, true],
  ];
  for (const [name, label, least, most, whole] of bounds) {
    const fault = numberFault(label, draft[name] as string, least, most, whole);
    if (fault) faults[name] = fault;
  }
  if (draft.suffix.length > 64) faults.suffix = 'At most 64 characters.';
  for (const rule of OPTIONS) {
    const given = draft.options[rule.name];
    if (given && (rule.kind === 'integer' || rule.kind === 'number')) {
      const fault = numberFault(rule.label, given, rule.least ?? -Infinity, rule.most ?? Infinity, rule.kind === 'integer');
      if (fault) faults[rule.name] = fault;
    }
  }
  return faults;
}

export interface Calls {
  python: string;
  curl: string;
  cli: string;
}

/** The draft as calls. The key is read from where the reader keeps it; it stands in none of them. */
export function callsOf(draft: Draft, origin: string): Calls {
  const request = requestOf(draft);
  const { luthier, ...plain } = request;
  const given = Object.entries({ ...plain, model: draft.model || 'MODEL', training_file: draft.training || 'FILE_ID' });
  const lines = given.map(([name, value]) => `    ${name}=${python(value)},`);
  if (luthier) lines.push(`    extra_body={"luthier": ${python(luthier)}},`);
  const code = [
    'import os',
    'from openai import OpenAI',
    '',
    'client = OpenAI(',
    `    base_url=${python(`${origin}/v1`)},`,
    '    api_key=os.environ["OPENAI_API_KEY"],',
    ')',
    'job = client.fine_tuning.jobs.create(',
    ...lines,
    ')',
    'print(job.id)',
  ].join('\n');
  const body = JSON.stringify({ ...request, ...Object.fromEntries(given) }, null, 2);
  const curl = `curl ${quoted(`${origin}/v1/fine_tuning/jobs`)} \\\n  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d ${quoted(body)}`;
  return { python: code, curl, cli: commandOf(draft) };
}

function commandOf(draft: Draft): string {
  const parts = ['luthier jobs create', `--model ${quoted(draft.model || 'MODEL')}`, `--training-file ${quoted(draft.training || 'FILE_ID')}`];
  if (draft.validation) parts.push(`--validation-file ${quoted(draft.validation)}`);
  if (draft.suffix) parts.push(`--suffix ${quoted(draft.suffix)}`);
  if (draft.seed) parts.push(`--seed ${quoted(draft.seed)}`);
  if (draft.method === 'dpo') parts.push('--method dpo');
  if (draft.method === 'dpo' && draft.beta) parts.push(`--beta ${quoted(draft.beta)}`);
  for (const name of HYPER) if (draft[name]) parts.push(`--${name.replaceAll('_', '-')} ${quoted(draft[name])}`);
  for (const { name } of optionsOf(draft)) if (draft.options[name]) parts.push(`--option ${quoted(`${name}=${draft.options[name]}`)}`);
  return [...parts, '--wait'].join(' \\\n  ');
}

function optionValue(rule: OptionRule, given: string): Json {
  if (rule.kind === 'yes') return given === 'true';
  if (rule.kind === 'integer' || rule.kind === 'number') return Number(given);
  if (rule.kind !== 'text') return given;
  const words = given.split(/[\s,]+/).filter(Boolean);
  return words.length > 1 ? words : (words[0] ?? '');
}

function numberFault(label: string, given: string, least: number, most: number, whole: boolean): string | null {
  if (!given) return null;
  const value = Number(given);
  if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) return `${label} must be a ${whole ? 'whole ' : ''}number.`;
  if (value < least || value > most) return `${label} must lie between ${least} and ${most}.`;
  return null;
}

/** A value as Python writes it. */
export function python(value: Json): string {
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(value).map(([name, one]) => `${python(name)}: ${python(one)}`).join(', ')}}`;
  return JSON.stringify(value);
}

/** A word of a POSIX shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
