/** The story of a run: what each of the five stages is called, what it waits for, and what its sample holds. Pure. */

import type { JobRow, StageState, TokenPart, TraceView } from '../api/types';
import type { Stage } from '../api/trace';
import { count, duration, percent } from './format';

export const STAGE_TITLES: Record<Stage, string> = {
  data_collection: 'Data collection',
  data_preprocessing: 'Data preprocessing',
  fine_tuning_training: 'Fine-tuning training',
  evaluation: 'Evaluation',
  deployment: 'Deployment',
};

/** What a stage will do, said before it begins. */
export const STAGE_PLANS: Record<Stage, string> = {
  data_collection: 'Lines become examples: each is read, checked and counted.',
  data_preprocessing: 'Examples become tokens: the chat template is applied, and it is marked which tokens are trained.',
  fine_tuning_training: 'Tokens become steps: each step moves the weights a little.',
  evaluation: 'The base and the tuned model answer the same held-out prompts.',
  deployment: 'The tuned model is saved, loaded and asked its first question.',
};

/** Where else the stage can be looked into. */
export const STAGE_VIEWS: Record<Stage, [view: string, text: string]> = {
  data_collection: ['data', 'See the data as the model does'],
  data_preprocessing: ['data', 'See the data as the model does'],
  fine_tuning_training: ['training', 'See the curves and the epochs'],
  evaluation: ['compare', 'Compare base and tuned answers'],
  deployment: ['prediction', 'Look into one prediction'],
};

export interface StageTime {
  stage: Stage;
  seconds: number;
}

/** Seconds of the stages that are done. */
export function stageTimes(stages: readonly StageState[]): StageTime[] {
  return stages.flatMap((one) => (one.report ? [{ stage: one.stage, seconds: one.report.seconds }] : []));
}

/** "Training took 34 s, 71 % of the 48 s of all stages." */
export function timeFinding(times: readonly StageTime[]): string {
  const whole = times.reduce((sum, one) => sum + one.seconds, 0);
  const longest = times.reduce((most, one) => (one.seconds > most.seconds ? one : most));
  if (times.length === 1 || whole === 0) return `${STAGE_TITLES[longest.stage]} took ${duration(longest.seconds)}.`;
  return `${STAGE_TITLES[longest.stage]} took ${duration(longest.seconds)}, ${percent(longest.seconds / whole)} of the ${duration(whole)} of ${
    times.length === 5 ? 'the five stages' : 'the stages so far'
  }.`;
}

export type Sample =
  | { form: 'pair'; line: number | null; parts: { label: string; text: string }[] }
  | { form: 'tokens'; line: number | null; tokens: TokenPart[] }
  | { form: 'losses'; losses: { epoch: number; loss: number }[] }
  | { form: 'none' };

const LABELS: Record<string, string> = {
  prompt: 'Prompt',
  completion: 'Completion',
  expected: 'Expected',
  base: 'Base answers',
  tuned: 'Tuned answers',
  answer: 'Answer',
  other: 'Other answer',
};

/** The sample of a stage in a form that can be drawn; nothing is made up for a part that is missing. */
export function sampleOf(sample: Record<string, unknown> | null | undefined): Sample {
  if (!sample) return { form: 'none' };
  const line = typeof sample.line === 'number' ? sample.line : null;
  if (Array.isArray(sample.tokens)) return { form: 'tokens', line, tokens: sample.tokens as never };
  if (Array.isArray(sample.losses)) return sample.losses.length ? { form: 'losses', losses: sample.losses as never } : { form: 'none' };
  const parts: { label: string; text: string }[] = [];
  if (Array.isArray(sample.messages)) {
    for (const message of sample.messages as { role?: unknown; content?: unknown }[]) {
      const calls = 'tool_calls' in message ? JSON.stringify(message.tool_calls) : '';
      parts.push({ label: String(message.role ?? 'message'), text: [message.content, calls].filter(Boolean).map(String).join('\n') });
    }
  }
  for (const [key, label] of Object.entries(LABELS)) {
    if (typeof sample[key] === 'string') parts.push({ label, text: sample[key] });
  }
  return parts.length ? { form: 'pair', line, parts } : { form: 'none' };
}

/** Of the sample's own loss: "Its loss fell from 2.50 to 1.25." */
export function lossFinding(losses: readonly { epoch: number; loss: number }[], write: (value: number) => string): string {
  const first = losses[0]!;
  const last = losses.at(-1)!;
  if (losses.length === 1) return `The loss of the same example after epoch ${first.epoch}: ${write(first.loss)}.`;
  const moved = last.loss < first.loss ? 'fell' : last.loss > first.loss ? 'rose' : 'stayed';
  return `The loss of the same example ${moved} from ${write(first.loss)} after epoch ${first.epoch} to ${write(last.loss)} after epoch ${last.epoch}.`;
}

/** Of the stage in which a job ended. */
export function stoppedSentence(row: Pick<JobRow, 'status' | 'step' | 'total_steps'>): string {
  const where = row.step !== null && row.total_steps !== null ? `, after step ${count(row.step)} of ${count(row.total_steps)}` : '';
  return `The job ${row.status === 'failed' ? 'failed' : 'was cancelled'} in this stage${where}.`;
}

/** The largest of all: which attempt the job is in, where it had to go on. */
export function resumedSentence(view: TraceView): string | null {
  const at = view.resumed_from;
  if (!at.length) return null;
  return `The run was interrupted and went on from step ${at.join(', then ')}; what it had learned was kept.`;
}

/** Notices that follow each other and weigh the same, together. */
export function grouped(notices: TraceView['notices']): { level: string; messages: string[] }[] {
  const groups: { level: string; messages: string[] }[] = [];
  for (const { level, message } of notices) {
    const last = groups.at(-1);
    if (last?.level === level) last.messages.push(message);
    else groups.push({ level, messages: [message] });
  }
  return groups;
}
