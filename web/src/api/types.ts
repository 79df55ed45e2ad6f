/**
 * Short names of what the dashboard reads. Every form is made from the code: answers of the API in `schema.ts`, events in `trace.ts`; what
 * the page itself puts together (an answer that a run recorded beside one that was traced now) is made of these.
 */

import type { Schemas } from './schema';

export type JobRow = Schemas['JobRow'];
export type JobStatus = JobRow['status'];
export const FINAL: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled'];

/** OpenAI's error inside a job, a task or an answer. */
export type ErrorBody = Pick<Schemas['Error'], 'code' | 'message'> & Partial<Pick<Schemas['Error'], 'param' | 'type'>>;

/** A page of any list, whatever it is of. */
export type List<T> = Omit<Schemas['JobRowList'], 'data' | 'total'> & { data: T[] } & Partial<Pick<Schemas['JobRowList'], 'total'>> &
  Partial<Pick<Schemas['PageOf_File_'], 'first_id' | 'last_id'>>;

export type Session = Schemas['Session'];
export type SystemState = Schemas['System'];
export type ModelRow = Schemas['ModelRow'];

export type JobView = Schemas['JobView'];
export type TraceView = Schemas['TraceView'];
export type StageState = Schemas['StageState'];
export type Decision = Schemas['Decision'];
export type EpochRow = Schemas['EpochRow'];
export type FixedAnswer = Schemas['FixedAnswer'];
export type Evaluation = Schemas['Evaluation'];
export type RecordedPrediction = Schemas['RecordedPrediction'];
export type Quiz = Schemas['Quiz'];
export type Insight = Schemas['Insight'];
export type Code = Schemas['Code'];
export type Metrics = Schemas['Metrics'];
export type JobEvent = Schemas['Event'];
export type RowLoss = Schemas['RowLoss'];
export type RowLosses = Schemas['RowLossList'];
export type RowOrder = 'line' | 'loss' | 'fall';

export type PredictionRequest = Schemas['TraceRequest'];
export type LayerSide = Schemas['TraceLayerSide'];
export type PredictionLayers = Schemas['TraceLayers'];
export type PredictionAttention = Schemas['TraceAttention'];
export type ForcedToken = Schemas['TraceForcedToken'];

/** A token as a strip shows it, whoever told it. */
export type TokenPart = Pick<Schemas['RenderedToken'], 'text'> & { kind: string } & Partial<Pick<Schemas['RecordedToken'], 'id' | 'role' | 'bytes' | 'message'>>;

/** A step of an answer: of a traced one all is known, of a recorded one what the run wrote down. */
export type PathStep = Pick<Schemas['TraceStep'], 'token' | 'probability'> &
  Partial<Pick<Schemas['TraceStep'], 'id' | 'logprob' | 'rank' | 'entropy' | 'forced'>> & {
    end?: boolean | null;
    top: (Schemas['RecordedAlternative'] & Partial<Schemas['TraceAlternative']>)[];
  };
export interface PredictionSide {
  answer: string;
  finish_reason: Schemas['TraceSide']['finish_reason'] | null;
  path: PathStep[];
}

/** What the views of a prediction read. The page always asks for tier A, so that the answer is there. */
export type PredictionTrace = Omit<Schemas['PredictionTraceObject'], 'prompt_tokens' | 'tuned' | 'base_side' | 'missing'> & {
  prompt_tokens: TokenPart[];
  tuned: PredictionSide;
  base_side: PredictionSide | null;
  missing: (Pick<Schemas['TraceMissing'], 'reason'> & { tier: string })[];
};
