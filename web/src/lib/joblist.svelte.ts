/** The list of jobs as the screen shows it: filtered and sorted by the server, read page by page to its end, kept new by the stream. */

import type { JobRow, JobStatus, List } from '../api/types';
import { api, type Api } from './api';

export interface JobQuery {
  search: string;
  status: JobStatus | '';
  method: string;
  sort: string;
}

export const NEWEST = '-created_at';
const PAGE = 500;

export class JobList {
  rows = $state.raw<readonly JobRow[]>([]);
  /** Under the filter; null until the first page is here. */
  total = $state<number | null>(null);
  trouble = $state.raw<Error | null>(null);
  #query: JobQuery = { search: '', status: '', method: '', sort: NEWEST };
  #asked = 0;
  readonly #api: Pick<Api, 'get'>;

  constructor(from: Pick<Api, 'get'> = api) {
    this.#api = from;
  }

  /** Read anew with this filter; an older reading that is still on its way is forgotten. Throws where the server does not answer. */
  async read(query: JobQuery = this.#query): Promise<void> {
    const other = JSON.stringify(query) !== JSON.stringify(this.#query);
    this.#query = query;
    const asked = ++this.#asked;
    const found: JobRow[] = [];
    try {
      for (let after: string | null = null; ; ) {
        const page: List<JobRow> = await this.#api.get<List<JobRow>>('/v1/luthier/jobs', { query: { ...query, limit: PAGE, after } });
        if (asked !== this.#asked) return;
        found.push(...page.data);
        // Of another list the first page is shown at once; the same one read again never becomes shorter for a moment: whoever has
        // scrolled far down stays there.
        if (found.length >= this.rows.length || !page.has_more || (other && after === null)) this.rows = [...found];
        this.total = page.total ?? found.length;
        this.trouble = null;
        after = page.data.at(-1)?.id ?? null;
        if (!page.has_more || after === null) return;
      }
    } catch (error) {
      if (asked === this.#asked) this.trouble = error as Error;
      throw error;
    }
  }

  /** A row that changed or is new; true where the list must be read anew to know its place. */
  take(row: JobRow): boolean {
    const at = this.rows.findIndex((old) => old.id === row.id);
    const { search, status, method, sort } = this.#query;
    if (at >= 0) {
      const moves = sort !== NEWEST && sort !== 'created_at';
      this.rows = this.rows.with(at, row);
      return moves || (status !== '' && row.status !== status);
    }
    if (search || status || method || sort !== NEWEST) return true;
    this.rows = [row, ...this.rows];
    this.total = (this.total ?? 0) + 1;
    return false;
  }
}

/** The part of a long list that is in sight: from, to (exclusive). Rows are equally high. */
export function inSight(count: number, rowHeight: number, above: number, viewHeight: number, spare = 8): [number, number] {
  const from = Math.max(0, Math.floor(above / rowHeight) - spare);
  const to = Math.min(count, Math.ceil((above + viewHeight) / rowHeight) + spare);
  return from < to ? [from, to] : [Math.max(0, count - 2 * spare), count];
}
