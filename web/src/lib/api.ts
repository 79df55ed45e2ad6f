/**
 * Our one way to the server: JSON over fetch with the session's cookie, the CSRF header on what changes things, and errors in the
 * API's own form. What it does not: keep state (`session.svelte.ts`) or listen to streams (`stream.ts`). The file of a self-contained page never calls it.
 */

import type { Routes } from '../api/schema';
import type { ErrorBody } from '../api/types';

/** The server refused: OpenAI's error object with the HTTP status; status 0 means that no server answered. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly param: string | null;
  readonly type: string | null;
  readonly requestId: string | null;

  constructor(status: number, body: Partial<ErrorBody> & { message: string }, requestId: string | null = null) {
    super(body.message);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.code ?? null;
    this.param = body.param ?? null;
    this.type = body.type ?? null;
    this.requestId = requestId;
  }
}

export interface Options {
  query?: Record<string, string | number | boolean | null | undefined>;
  body?: unknown;
  signal?: AbortSignal;
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
type Fetch = typeof fetch;

export class Api {
  /** Of the session; sent with everything that is not a plain read. */
  csrf: string | null = null;
  /** Called when the server no longer knows the session. */
  onSignedOut: () => void = () => {};
  readonly #fetch: Fetch;

  constructor(fetcher: Fetch = (...args) => fetch(...args)) {
    this.#fetch = fetcher;
  }

  get<T>(path: string, options: Options = {}): Promise<T> {
    return this.#json<T>('GET', path, options);
  }

  post<T>(path: string, body?: unknown, options: Options = {}): Promise<T> {
    return this.#json<T>('POST', path, { ...options, body });
  }

  delete<T>(path: string, options: Options = {}): Promise<T> {
    return this.#json<T>('DELETE', path, options);
  }

  /** A call whose forms come from our OpenAPI document: `api.call('GET /v1/luthier/keys')`; `{name}` in the path is filled from `params`. */
  call<K extends keyof Routes>(
    route: K,
    options: Options & { params?: Record<string, string>; body?: Routes[K]['body'] } = {},
  ): Promise<Routes[K]['answer']> {
    const [method, template] = route.split(' ') as [Method, string];
    const path = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(options.params?.[name] ?? ''));
    return this.#json(method, path, options);
  }

  /** Send a file as a form, with the share that is sent as it goes (0 to 1). */
  upload<T>(path: string, form: FormData, progress: (share: number) => void = () => {}, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open('POST', path);
      if (this.csrf) request.setRequestHeader('X-Luthier-CSRF', this.csrf);
      request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
      request.onload = () => {
        const { status, responseText } = request;
        if (status >= 200 && status < 300) resolve(JSON.parse(responseText) as T);
        else reject(this.#refused(status, responseText, request.getResponseHeader('x-request-id')));
      };
      request.onerror = () => reject(unreachable());
      request.onabort = () => reject(new DOMException('The upload was stopped.', 'AbortError'));
      signal?.addEventListener('abort', () => request.abort());
      request.send(form);
    });
  }

  /** The answer itself, for streams and downloads; a refusal is an ApiError. */
  async raw(method: Method, path: string, options: Options = {}): Promise<Response> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (options.body !== undefined) headers['content-type'] = 'application/json';
    if (method !== 'GET' && this.csrf) headers['x-luthier-csrf'] = this.csrf;
    let answer: Response;
    try {
      answer = await this.#fetch(withQuery(path, options.query), {
        method,
        headers,
        credentials: 'same-origin',
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
        ...(options.signal ? { signal: options.signal } : {}),
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw unreachable();
    }
    if (!answer.ok) throw this.#refused(answer.status, await answer.text(), answer.headers.get('x-request-id'));
    return answer;
  }

  async #json<T>(method: Method, path: string, options: Options): Promise<T> {
    const answer = await this.raw(method, path, options);
    return (answer.status === 204 ? undefined : await answer.json()) as T;
  }

  #refused(status: number, text: string, requestId: string | null): ApiError {
    if (status === 401) this.onSignedOut();
    return new ApiError(status, bodyOf(status, text), requestId);
  }
}

function withQuery(path: string, query: Options['query']): string {
  const known = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return known.length ? `${path}?${new URLSearchParams(known.map(([name, value]) => [name, String(value)]))}` : path;
}

function bodyOf(status: number, text: string): ErrorBody {
  try {
    const { error } = JSON.parse(text) as { error?: ErrorBody };
    if (error && typeof error.message === 'string') return error;
  } catch {
    // Not JSON: something between us and the server spoke.
  }
  return { code: null, message: `The server answered ${status} without saying why.` };
}

function unreachable(): ApiError {
  return new ApiError(0, { message: 'The server does not answer. Is `luthier serve` still running?' });
}

/** Of this page. */
export const api = new Api();
