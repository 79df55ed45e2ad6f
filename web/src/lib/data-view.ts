/** What the data view says in words and rows. Pure. */

import type { TraceView } from '../api/types';
import type { DataReport, DoctorReport, RowPreview } from './dataset-tasks';
import { count, counted, percent } from './format';

export interface Statistics {
  examples: number;
  tokens: number;
  trained: number;
  longest: number;
  /** Steps by the lengths of their rows, shortest first. */
  lengths: { shortest: number; longest: number; steps: number }[];
}

/** Counts of the training file, one pass, out of the run's forecast (which counts the file itself); null before it. */
export function statisticsOf(view: TraceView): Statistics | null {
  const found = view.forecast;
  if (!found) return null;
  const { examples, tokens_per_epoch: tokens, trained_per_epoch: trained, longest } = found;
  if (![examples, tokens, trained, longest].every((value) => typeof value === 'number')) return null;
  return { examples, tokens, trained, longest, lengths: merged(Array.isArray(found.buckets) ? found.buckets : []) } as Statistics;
}

/** Steps whose rows are equally long are one bar. */
function merged(lengths: Statistics['lengths']): Statistics['lengths'] {
  const found: Statistics['lengths'] = [];
  for (const one of lengths) {
    const last = found.at(-1);
    if (last?.shortest === one.shortest && last.longest === one.longest) found[found.length - 1] = { ...last, steps: last.steps + one.steps };
    else found.push(one);
  }
  return found;
}

/** "Half of the steps read rows of at most 18 tokens; the longest row has 25." */
export function lengthFinding(lengths: Statistics['lengths']): string {
  const whole = lengths.reduce((sum, one) => sum + one.steps, 0);
  const longest = lengths.at(-1)!.longest;
  let seen = 0;
  for (const one of lengths) {
    seen += one.steps;
    if (seen * 2 >= whole && one.longest < longest) {
      return `${percent(seen / whole)} of the steps read rows of at most ${counted(one.longest, 'token')}; the longest row has ${count(longest)}.`;
    }
  }
  return `The rows have ${count(lengths[0]!.shortest)} to ${counted(longest, 'token')}.`;
}

/** "6 of its 18 tokens are trained (33 %)." and what was cut. */
export function rowFinding(
  preview: Pick<RowPreview, 'line' | 'max_length'> & {
    sequences: readonly Pick<RowPreview['sequences'][number], 'name' | 'num_trained' | 'num_tokens' | 'num_truncated' | 'trained_share'>[];
  },
): string {
  return preview.sequences
    .map((one) => {
      const name = one.name === 'example' ? `Line ${preview.line}` : `Line ${preview.line}, ${one.name.replace('_', '-')} answer`;
      const cut = one.num_truncated ? `; ${counted(one.num_truncated, 'token')} cut off at ${count(preview.max_length)}` : '';
      return `${name}: ${count(one.num_trained)} of ${counted(one.num_tokens, 'token')} are trained (${percent(one.trained_share)})${cut}.`;
    })
    .join(' ');
}

/** "No fault in 198 lines." or what there is. */
export function checkFinding(report: Pick<DataReport, 'file' | 'num_lines' | 'num_faulty_rows' | 'num_faults' | 'num_warnings'>): string {
  if (!report.num_faults && !report.num_warnings) return `No fault in the ${counted(report.num_lines, 'line')} of ${report.file}.`;
  const faults = report.num_faults ? `${counted(report.num_faults, 'fault')} in ${counted(report.num_faulty_rows, 'row')}` : 'no fault';
  const warnings = report.num_warnings ? ` and ${counted(report.num_warnings, 'warning')}` : '';
  const text = `${faults}${warnings} in the ${counted(report.num_lines, 'line')} of ${report.file}.`;
  return text[0]!.toUpperCase() + text.slice(1);
}

/** "3 findings, 1 of them serious, in 198 rows." */
export function doctorFinding(report: DoctorReport): string {
  if (!report.num_findings) return `Nothing stands out in the ${counted(report.num_rows, 'row')} of ${report.file}.`;
  const serious = report.num_serious ? `, ${count(report.num_serious)} of them serious,` : ', none of them serious,';
  return `${counted(report.num_findings, 'finding')}${serious} in the ${counted(report.num_rows, 'row')} of ${report.file}.`;
}

/** Labels with their rows, the most frequent first; null where the answers are texts. */
export function labelBalance(report: Pick<DoctorReport, 'statistics'>): { label: string; rows: number }[] | null {
  const labels = report.statistics.labels;
  if (!labels) return null;
  return Object.entries(labels)
    .map(([label, rows]) => ({ label, rows }))
    .sort((a, b) => b.rows - a.rows || a.label.localeCompare(b.label));
}

/** "spam" is the answer of 70 % of the labelled rows, "ham" of 30 %. */
export function labelFinding(labels: readonly { label: string; rows: number }[]): string {
  const whole = labels.reduce((sum, one) => sum + one.rows, 0);
  const most = labels[0]!;
  const least = labels.at(-1)!;
  return `“${most.label}” is the answer of ${percent(most.rows / whole)} of the labelled rows, “${least.label}” of ${percent(least.rows / whole)}.`;
}

export const WEIGHTS: Record<string, { tone: 'error' | 'warn' | 'waiting'; label: string }> = {
  serious: { tone: 'error', label: 'Serious' },
  worth_a_look: { tone: 'warn', label: 'Worth a look' },
  information: { tone: 'waiting', label: 'To know' },
};

/** How grave the weightiest finding is. */
export function doctorTone(report: Pick<DoctorReport, 'num_serious'> & { findings: readonly Pick<DoctorReport['findings'][number], 'weight'>[] }): 'error' | 'warn' | 'ok' {
  if (report.num_serious) return 'error';
  return report.findings.some((one) => one.weight === 'worth_a_look') ? 'warn' : 'ok';
}
