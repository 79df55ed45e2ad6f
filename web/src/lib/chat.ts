/**
 * Chat completions as they stream: the request of the playground, and server-sent events read piece by piece. What it does not: draw.
 */

import type { Schemas } from '../api/schema';
import { ApiError, type Api } from './api';

/** What is asked of both models; an empty text is the server's default. */
export interface Ask {
  system: string;
  prompt: string;
  temperature: string;
  top_p: string;
  max_tokens: string;
  seed: string;
}

export const ASK: Ask = { system: '', prompt: '', temperature: '0', top_p: '', max_tokens: '64', seed: '' };
/** Alternatives that are asked for with each token. */
export const ALTERNATIVES = 5;

export interface AnsweredToken {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top: { token: string; logprob: number }[];
}

export interface Answer {
  text: string;
  tokens: AnsweredToken[];
  finish: string | null;
  usage: Schemas['Usage'] | null;
}

interface Chunk {
  choices: {
    delta: { content?: string | null };
    logprobs: { content: { token: string; logprob: number; bytes: number[] | null; top_logprobs: { token: string; logprob: number }[] }[] | null } | null;
    finish_reason: string | null;
  }[];
  usage?: Schemas['Usage'] | null;
  error?: { message: string; code: string | null };
}

export const EMPTY: Answer = { text: '', tokens: [], finish: null, usage: null };

export function messagesOf(ask: Ask): { role: string; content: string }[] {
  return [...(ask.system ? [{ role: 'system', content: ask.system }] : []), { role: 'user', content: ask.prompt }];
}

export function chatRequest(model: string, ask: Ask): Record<string, unknown> {
  const numbers = (['temperature', 'top_p', 'max_tokens', 'seed'] as const).filter((name) => ask[name] !== '').map((name) => [name, Number(ask[name])]);
  return {
    model,
    messages: messagesOf(ask),
    ...Object.fromEntries(numbers),
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: ALTERNATIVES,
  };
}

/** The answer with one more chunk in it. */
export function withChunk(answer: Answer, chunk: Chunk): Answer {
  const choice = chunk.choices[0];
  const more = (choice?.logprobs?.content ?? []).map(({ token, logprob, bytes, top_logprobs }) => ({ token, logprob, bytes, top: top_logprobs }));
  return {
    text: answer.text + (choice?.delta.content ?? ''),
    tokens: more.length ? [...answer.tokens, ...more] : answer.tokens,
    finish: choice?.finish_reason ?? answer.finish,
    usage: chunk.usage ?? answer.usage,
  };
}

/** Stream one model's answer; each change of it is told. Throws what the API says. */
export async function streamChat(api: Pick<Api, 'raw'>, request: Record<string, unknown>, onanswer: (answer: Answer) => void, signal: AbortSignal): Promise<Answer> {
  const reply = await api.raw('POST', '/v1/chat/completions', { body: request, signal });
  let answer = EMPTY;
  for await (const data of eventsOf(reply.body!)) {
    if (data === '[DONE]') return answer;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new ApiError(200, chunk.error);
    answer = withChunk(answer, chunk);
    onanswer(answer);
  }
  throw new ApiError(0, { message: 'The answer broke off: the connection to the server was lost.' });
}

/** The `data` of each server-sent event, however the bytes are cut. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const events = rest.split(/\r?\n\r?\n/);
    rest = events.pop()!;
    for (const event of events) {
      const data = event
        .split(/\r?\n/)
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).replace(/^ /, ''));
      if (data.length) yield data.join('\n');
    }
    if (done) return;
  }
}

/** The playground's address: what is asked and of whom, so that another one sees the same. */
export function askOf(query: URLSearchParams): Ask {
  const text = (name: string, otherwise: string) => query.get(name) ?? otherwise;
  return {
    system: text('system', ASK.system),
    prompt: text('prompt', ASK.prompt),
    temperature: text('temperature', ASK.temperature),
    top_p: text('top_p', ASK.top_p),
    max_tokens: text('max_tokens', ASK.max_tokens),
    seed: text('seed', ASK.seed),
  };
}

/** What is wrong with the numbers, by field. */
export function askFaults(ask: Ask): Partial<Record<keyof Ask, string>> {
  const faults: Partial<Record<keyof Ask, string>> = {};
  const bounds: [keyof Ask, string, number, number, boolean][] = [
    ['temperature', 'Temperature', 0, 2, false],
    ['top_p', 'Top-p', 0, 1, false],
    ['max_tokens', 'Most tokens', 1, 1_000_000, true],
    ['seed', 'Seed', -(2 ** 53), 2 ** 53, true],
  ];
  for (const [name, label, least, most, whole] of bounds) {
    if (ask[name] === '') continue;
    const value = Number(ask[name]);
    if (!Number.isFinite(value) || (whole && !Number.isInteger(value)) || value < least || value > most) {
      faults[name] = `${label} must be a ${whole ? 'whole ' : ''}number${Math.abs(most) < 1e9 ? ` between ${least} and ${most}` : ''}.`;
    }
  }
  return faults;
}
