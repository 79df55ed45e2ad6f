// @vitest-environment jsdom
import { flushSync } from 'svelte';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import JobHeader from '../src/components/JobHeader.svelte';
import JobTable from '../src/screens/jobs/JobTable.svelte';
import Training from '../src/views/Training.svelte';
import { clear, draw, goldenJob } from './support/page';

// What jsdom lacks is what a canvas chart asks for; the chart itself is looked at in a browser.
vi.mock('uplot', () => ({
  default: class {
    static rangeNum = () => [0, 1];
    setData() {}
    redraw() {}
    setSize() {}
    setScale() {}
    destroy() {}
  },
}));

beforeAll(() => {
  vi.stubGlobal('ResizeObserver', class { observe() {} disconnect() {} });
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
});
afterEach(clear);

const button = (page: HTMLElement, name: string) => [...page.querySelectorAll('button')].find((b) => b.textContent?.trim() === name)!;

describe('the training view', () => {
  it('shows every epoch with its observation, and an id that leads there', () => {
    const data = goldenJob();
    const page = draw(Training, { data });
    for (const row of data.view.epochs) expect(page.querySelector(`#epoch-${row.epoch}`)!.textContent).toContain(row.observation);
    expect(page.querySelector('#epoch-2')!.textContent).toContain('1.25');
    expect(page.querySelector('#epoch-base')!.textContent).toContain('3.50');
    expect(page.textContent).toContain('Train loss fell from 2.50 to 1.25');
    expect(page.querySelector('#decisions')!.textContent).toContain('16 examples are few.');
  });

  it('has the curve as a table', () => {
    const page = draw(Training, { data: goldenJob() });
    button(page.querySelector('#curve')!, 'Show as table').click();
    flushSync();
    const rows = [...page.querySelectorAll('#curve tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent));
    expect(rows.map((row) => row[0])).toEqual(['1', '2', '3', '4']);
    expect(rows[1]).toEqual(['2', '2.00', '1.50']);
  });

  it('says what is awaited while there is no step, and invents no row', () => {
    const golden = goldenJob();
    const view = { ...golden.view, epochs: [], base: null, steps: [], finished: null };
    const page = draw(Training, { data: goldenJob({ view, metrics: null, row: { ...golden.row, status: 'queued' } }) });
    expect(page.textContent).toContain('as soon as a trainer has taken the job');
    expect(page.querySelectorAll('tbody tr')).toHaveLength(0);
  });

  it('offers other jobs only where there is a server', () => {
    expect(draw(Training, { data: goldenJob() }).textContent).not.toContain('Lay other jobs');
    clear();
    expect(draw(Training, { data: goldenJob({}, {}) }).textContent).toContain('Lay other jobs over this one');
  });
});

describe('a job’s header', () => {
  const running = { ...goldenJob().row, status: 'running' as const, step: 2, total_steps: 8, eta_seconds: 130 };

  it('asks before it cancels', async () => {
    const cancel = vi.fn(() => Promise.resolve());
    const page = draw(JobHeader, { data: goldenJob({ row: running }, { cancel }) });
    button(page, 'Cancel').click();
    flushSync();
    expect(cancel).not.toHaveBeenCalled();
    button(page, 'Cancel the job').click();
    await vi.waitFor(() => expect(cancel).toHaveBeenCalledOnce());
  });

  it('shows why the server refused', async () => {
    const page = draw(JobHeader, { data: goldenJob({ row: running }, { pause: () => Promise.reject(new Error('The job is not running.')) }) });
    button(page, 'Pause').click();
    await vi.waitFor(() => expect(page.querySelector('[role=alert]')?.textContent).toContain('The job is not running.'));
  });

  it('does not pretend to be alive when nobody answers', () => {
    const page = draw(JobHeader, { data: goldenJob({ row: running, connection: 'lost' }, {}) });
    expect(page.textContent).toContain('not live: this may be old');
    expect(page.querySelector('[role=progressbar]')!.getAttribute('aria-valuetext')).toContain('not live');
    expect(page.textContent).not.toContain('left');
  });

  it('moves nothing in a saved page', () => {
    const page = draw(JobHeader, { data: goldenJob({ row: running }) });
    expect(['Pause', 'Cancel'].map((name) => button(page.querySelector('header')!, name))).toEqual([undefined, undefined]);
  });
});

describe('the table of jobs', () => {
  const rows = Array.from({ length: 5000 }, (_, i) => ({ ...goldenJob().row, id: `ftjob-${i}`, suffix: i ? `s${i}` : '<b>bold</b>' }));

  it('draws only what is in sight, and says how many there are', () => {
    const page = draw(JobTable, { rows, sort: '-created_at', chosen: new Set<string>(), onsort: () => {} });
    expect(page.querySelector('[role=table]')!.getAttribute('aria-rowcount')).toBe('5001');
    expect(page.querySelectorAll('.line').length).toBeLessThan(60);
    expect(page.querySelector('b')).toBeNull();
    expect(page.textContent).toContain('<b>bold</b>');
  });

  it('sorts by its heads: the best loss is the lowest', () => {
    const asked: string[] = [];
    const page = draw(JobTable, { rows, sort: '-created_at', chosen: new Set<string>(), onsort: (sort: string) => asked.push(sort) });
    for (const head of page.querySelectorAll<HTMLButtonElement>('.head button')) head.click();
    expect(asked).toEqual(['model', 'status', 'best_valid_loss', 'created_at']);
    expect(page.querySelector('[aria-sort=descending]')!.textContent).toContain('Created');
  });
});
