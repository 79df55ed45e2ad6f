/** The models as a person thinks of them: bases, and under each job's model its checkpoints. Pure. */

import type { ModelRow } from '../api/types';

export interface Family {
  /** The job's model; null where it was deleted or the job made checkpoints only. */
  head: ModelRow | null;
  job: string | null;
  /** The latest step first. */
  checkpoints: ModelRow[];
}

export function familiesOf(rows: readonly ModelRow[]): { bases: ModelRow[]; tuned: Family[] } {
  const families = new Map<string, Family>();
  for (const row of rows) {
    if (row.kind === 'base') continue;
    const key = row.job_id ?? row.id;
    const family = families.get(key) ?? { head: null, job: row.job_id, checkpoints: [] };
    if (row.step === null && family.head === null) family.head = row;
    else family.checkpoints.push(row);
    families.set(key, family);
  }
  for (const family of families.values()) family.checkpoints.sort((a, b) => (b.step ?? 0) - (a.step ?? 0));
  return { bases: rows.filter((row) => row.kind === 'base'), tuned: [...families.values()] };
}

/** Whether a model is one that a search means: by name, alias, base, job or source. */
export function means(row: ModelRow, word: string): boolean {
  const text = [row.id, row.base, row.job_id ?? '', row.source ?? '', ...row.aliases].join('\n').toLowerCase();
  return text.includes(word.trim().toLowerCase());
}

/** What a deletion touches, in sentences; the server refuses it while an alias stands for the model. */
export function touched(row: ModelRow): { blocked: string[]; told: string[] } {
  const { aliases, jobs } = row.dependents;
  return {
    blocked: aliases.map((alias) => `The alias ${alias} stands for it: move or delete the alias first.`),
    told: [
      ...jobs.map((job) => `The job ${job} is not over and goes on from it.`),
      ...(row.checkpoints.length ? [row.checkpoints.length === 1 ? 'Its checkpoint stays; it is deleted by itself.' : `Its ${row.checkpoints.length} checkpoints stay; each is deleted by itself.`] : []),
    ],
  };
}
