/** What the examples view shows: rows by loss, one row over the epochs, and the fixed prompts. Pure; asking is handed in. */

import type { FixedAnswer, RowLoss, RowLosses, RowOrder, TraceView } from '../api/types';
import { counted, loss } from './format';

export const ORDERS: Record<RowOrder, string> = { loss: 'Worst', fall: 'Least falling', line: 'By line' };

/** Change since the first known epoch; null where either is not known. */
export function changeOf(row: RowLoss): number | null {
  return row.loss === null || row.first_loss === null || row.first_loss === undefined ? null : row.loss - row.first_loss;
}

/** The rows that are here, in another order: what a saved page can do. Rows without a number come last. */
export function ordered(rows: readonly RowLoss[], order: RowOrder): RowLoss[] {
  const key = (row: RowLoss) => (order === 'line' ? -row.line : ((order === 'loss' ? row.loss : changeOf(row)) ?? -Infinity));
  return [...rows].sort((a, b) => key(b) - key(a) || a.line - b.line);
}

/** "Line 194 has the highest loss after epoch 5: 5.89, from 7.28 after epoch 1." */
export function rowsFinding(page: RowLosses, rows: readonly RowLoss[], order: RowOrder): string {
  const first = rows[0];
  if (!first || page.epoch === null) return 'No row was measured.';
  const after = `after epoch ${page.epoch}`;
  const from = first.first_loss === null || first.first_loss === undefined ? '' : `, from ${loss(first.first_loss)} after epoch ${page.epochs[0] ?? 1}`;
  if (order === 'loss') return `Line ${first.line} has the highest loss ${after}: ${loss(first.loss)}${from}.`;
  if (order === 'line') return `${counted(rows.length, 'row')} by line, with the loss ${after}.`;
  const change = changeOf(first);
  if (change === null) return `Only one epoch was measured so far: nothing has fallen yet.`;
  const moved = change >= 0 ? `rose by ${loss(change)}` : `fell by ${loss(-change)}`;
  return `The loss of line ${first.line} has fallen least: it ${moved} since epoch ${page.epochs[0] ?? 1}, to ${loss(first.loss)} ${after}.`;
}

export interface Point {
  epoch: number;
  loss: number;
}

type AskRows = (query: { epoch: number; order: RowOrder; after?: number; limit: number }) => Promise<RowLosses>;

/** How far before a line the one before it is looked for: lines may be left out of training. */
const LOOK_BACK = 4;

/** The loss of one line after each of the epochs. An epoch in which the line was not measured has no point. */
export async function lineOver(ask: AskRows, line: number, epochs: readonly number[]): Promise<Point[]> {
  const points = await Promise.all(epochs.map((epoch) => lineAt(ask, line, epoch)));
  return points.filter((point): point is Point => point !== null);
}

async function lineAt(ask: AskRows, line: number, epoch: number): Promise<Point | null> {
  for (let before = line - 1; before >= 0 && before >= line - LOOK_BACK; before -= 1) {
    const page = await ask({ epoch, order: 'line', limit: LOOK_BACK, ...(before ? { after: before } : {}) }).catch((error: { status?: number }) => {
      if (error.status === 404) return null; // That line was not trained on; the one before it, then.
      throw error as Error;
    });
    if (!page) continue;
    const loss = page.data.find((row) => row.line === line)?.loss ?? null;
    return loss === null ? null : { epoch, loss };
  }
  return null;
}

/** What a saved page knows of a row: its first and its last epoch. */
export function knownPoints(row: RowLoss, page: Pick<RowLosses, 'epoch' | 'epochs'>): Point[] {
  const points: Point[] = [];
  const first = page.epochs[0];
  if (typeof row.first_loss === 'number' && first !== undefined && first !== page.epoch) points.push({ epoch: first, loss: row.first_loss });
  if (row.loss !== null && page.epoch !== null) points.push({ epoch: page.epoch, loss: row.loss });
  return points;
}

/** "The loss of line 3 fell from 3.25 after epoch 1 to 2.50 after epoch 2." */
export function lineFinding(line: number, points: readonly Point[]): string {
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last) return `Line ${line} was not measured.`;
  if (points.length === 1) return `The loss of line ${line} was ${loss(first.loss)} after epoch ${first.epoch}.`;
  const moved = last.loss < first.loss ? 'fell' : last.loss > first.loss ? 'rose' : 'stayed';
  return `The loss of line ${line} ${moved} from ${loss(first.loss)} after epoch ${first.epoch} to ${loss(last.loss)} after epoch ${last.epoch}.`;
}

export interface PromptStory {
  line: number;
  prompt: string;
  expected: string;
  /** In the order of epochs; 0 is the base. `right`: exactly the expected answer, but for space around it. */
  answers: { epoch: number; answer: string; right: boolean; changed: boolean }[];
}

/** The fixed prompts with their answers over the epochs. */
export function promptStories(view: Pick<TraceView, 'answers'>): PromptStory[] {
  const stories = new Map<string, PromptStory>();
  for (const { epoch, answers } of [...view.answers].sort((a, b) => a.epoch - b.epoch)) {
    for (const one of answers as FixedAnswer[]) {
      const key = `${one.line}\n${one.prompt}`;
      const story = stories.get(key) ?? { line: one.line, prompt: one.prompt, expected: one.expected, answers: [] };
      const before = story.answers.at(-1);
      story.answers.push({ epoch, answer: one.answer, right: one.answer.trim() === one.expected.trim(), changed: before !== undefined && before.answer !== one.answer });
      stories.set(key, story);
    }
  }
  return [...stories.values()];
}

/** "3 of 5 prompts are answered exactly as expected after epoch 5, 0 by the base." */
export function promptsFinding(stories: readonly PromptStory[]): string {
  const last = stories.map((story) => story.answers.at(-1)!);
  const right = last.filter((one) => one.right).length;
  const epoch = Math.max(...last.map((one) => one.epoch));
  const base = stories.filter((story) => story.answers[0]?.epoch === 0 && story.answers[0].right).length;
  const known = stories.some((story) => story.answers[0]?.epoch === 0);
  if (epoch === 0) return `The base answers ${right} of ${counted(stories.length, 'prompt')} exactly as expected.`;
  return `${right} of ${counted(stories.length, 'prompt')} ${right === 1 || stories.length === 1 ? 'is' : 'are'} answered exactly as expected after epoch ${epoch}${known ? `, ${base} by the base` : ''}.`;
}
