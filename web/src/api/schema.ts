// Made by scripts/make_web_types.py; make docs renews it.

export interface Schemas {
  "Advice": {
    code: string;
    weight: "serious" | "worth_a_look" | "information";
    count: number;
    lines: number[];
    finding: string;
    why: string;
    cure: string;
    examples: string[];
    measured_on: number | null;
  };
  "Alias": {
    id: string;
    object: "luthier.alias";
    target: string;
    default_target: string | null;
    set_in: "database" | "settings";
    created_at: number | null;
    changed_at: number | null;
    changed_by: string | null;
  };
  "AliasChange": {
    object: "luthier.alias.change";
    action: "created" | "moved" | "rolled_back" | "deleted";
    from: string | null;
    to: string | null;
    changed_at: number;
    changed_by: string;
  };
  "AliasCreateRequest": {
    name: string;
    target: string;
  };
  "AliasMoveRequest": {
    target: string;
  };
  "AliasWithHistory": {
    id: string;
    object: "luthier.alias";
    target: string;
    default_target: string | null;
    set_in: "database" | "settings";
    created_at: number | null;
    changed_at: number | null;
    changed_by: string | null;
    history: Schemas["AliasChange"][];
  };
  "Alive": {
    status: "ok";
  };
  "AnswerMessage": {
    role: "assistant";
    content: string | null;
    refusal: null;
    annotations: unknown[];
    tool_calls?: Schemas["AnsweredCall"][] | null;
  };
  "AnsweredCall": {
    id: string;
    type: "function";
    function: Schemas["CalledFunction"];
  };
  "BaseMeasured": {
    loss: number;
    accuracy: number;
    held_out: boolean;
    preference: Record<string, number> | null;
  };
  "Basis": "formula" | "dry_run" | "first_steps";
  "Batch": {
    id: string;
    object: "batch";
    endpoint: string;
    model?: string | null;
    errors?: Schemas["BatchFaults"] | null;
    input_file_id: string;
    completion_window: "24h";
    status: "validating" | "failed" | "in_progress" | "finalizing" | "completed" | "expired" | "cancelling" | "cancelled";
    output_file_id?: string | null;
    error_file_id?: string | null;
    created_at: number;
    in_progress_at?: number | null;
    expires_at: number;
    finalizing_at?: number | null;
    completed_at?: number | null;
    failed_at?: number | null;
    expired_at?: number | null;
    cancelling_at?: number | null;
    cancelled_at?: number | null;
    request_counts: Schemas["BatchCounts"];
    usage: Schemas["BatchUsage"];
    metadata: Record<string, string> | null;
  };
  "BatchCounts": {
    total: number;
    completed: number;
    failed: number;
  };
  "BatchCreateRequest": {
    input_file_id: string;
    endpoint: "/v1/responses" | "/v1/chat/completions" | "/v1/completions";
    completion_window: "24h";
    metadata?: Record<string, string> | null;
    output_expires_after?: Schemas["ExpiresAfter"] | null;
  };
  "BatchFault": {
    code: string;
    message: string;
    param: string | null;
    line: number | null;
  };
  "BatchFaults": {
    object: "list";
    data: Schemas["BatchFault"][];
  };
  "BatchUsage": {
    input_tokens: number;
    input_tokens_details: Schemas["luthier__api__schemas__batch_objects__CachedTokens"];
    output_tokens: number;
    output_tokens_details: Schemas["luthier__api__schemas__batch_objects__ReasoningTokens"];
    total_tokens: number;
  };
  "CalledFunction": {
    name: string;
    arguments: string;
  };
  "CancelJobsRequest": {
    ids: string[];
  };
  "Cancelled": {
    id: string;
    status: "validating_files" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled" | null;
    error: Schemas["Error"] | null;
  };
  "ChatChoice": {
    index: number;
    message: Schemas["AnswerMessage"];
    logprobs: Schemas["ChatLogprobs"] | null;
    finish_reason: "stop" | "length" | "tool_calls";
  };
  "ChatCompletion": {
    id: string;
    object: "chat.completion";
    created: number;
    model: string;
    service_tier: string;
    system_fingerprint: string;
    choices: Schemas["ChatChoice"][];
    usage: Schemas["Usage"];
    metadata?: Record<string, string> | null;
  };
  "ChatLogprobs": {
    content: Schemas["ChatToken"][];
    refusal: null;
  };
  "ChatMessage": {
    role: "system" | "developer" | "user" | "assistant" | "tool" | "function";
    content?: string | {
      type: "text";
      text: string;
    }[] | null;
    name?: string | null;
    refusal?: string | null;
    tool_calls?: Schemas["ToolCall"][] | null;
    tool_call_id?: string | null;
    function_call?: Schemas["FunctionCall"] | null;
    audio?: Record<string, unknown> | null;
  };
  "ChatRequest": {
    model: string;
    messages: Schemas["ChatMessage"][];
    temperature?: number | null;
    top_p?: number | null;
    n?: number | null;
    max_tokens?: number | null;
    max_completion_tokens?: number | null;
    stop?: string | string[] | null;
    seed?: number | null;
    frequency_penalty?: number | null;
    presence_penalty?: number | null;
    logit_bias?: Record<string, number> | null;
    logprobs?: boolean | null;
    top_logprobs?: number | null;
    stream?: boolean | null;
    stream_options?: Schemas["StreamOptions"] | null;
    response_format?: {
      type: "text" | "json_object" | "json_schema";
    } | null;
    tools?: Schemas["Tool"][] | null;
    tool_choice?: "none" | "auto" | "required" | {
      type: "function";
    } | {
      type: "allowed_tools";
      allowed_tools: {
        mode: "auto" | "required";
        tools: Record<string, unknown>[];
      };
    } | null;
    functions?: Schemas["DeprecatedFunction"][] | null;
    function_call?: "none" | "auto" | {
      name: string;
    } | null;
    modalities?: string[] | null;
    audio?: Record<string, unknown> | null;
    web_search_options?: Record<string, unknown> | null;
    moderation?: Record<string, unknown> | null;
    parallel_tool_calls?: boolean | null;
    store?: boolean | null;
    metadata?: Record<string, string> | null;
    user?: string | null;
    safety_identifier?: string | null;
    prompt_cache_key?: string | null;
    prompt_cache_retention?: "in_memory" | "24h" | null;
    prompt_cache_options?: Record<string, unknown> | null;
    service_tier?: "auto" | "default" | "flex" | "scale" | "priority" | "fast" | null;
    verbosity?: "low" | "medium" | "high" | null;
    reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | null;
    prediction?: Record<string, unknown> | null;
  };
  "ChatToken": {
    token: string;
    logprob: number;
    bytes: number[];
    top_logprobs: Schemas["TopToken"][];
  };
  "CheckRequest": {
    wait_seconds?: number;
    file_id: string;
    role?: "training" | "validation";
    method?: "supervised" | "dpo" | "reinforcement" | null;
  };
  "Checkpoint": {
    id: string;
    object: "fine_tuning.job.checkpoint";
    created_at: number;
    fine_tuned_model_checkpoint: string;
    fine_tuning_job_id: string;
    step_number: number;
    metrics: Record<string, number | null>;
  };
  "CheckpointSaved": {
    step: number;
    epoch: number;
    model_name: string;
    bytes: number;
  };
  "Code": {
    python: string;
    curl: string;
    cli: string;
  };
  "ComparedAnswer": {
    line?: number | null;
    prompt: string;
    expected: string;
    base: string;
    tuned: string;
    base_loss?: number | null;
    tuned_loss?: number | null;
    verdict?: "better" | "worse" | "same" | null;
  };
  "CompletionDetails": {
    reasoning_tokens: number;
    audio_tokens: number;
    accepted_prediction_tokens: number;
    rejected_prediction_tokens: number;
  };
  "CompletionFilterRequest": {
    model?: string | null;
    metadata?: Record<string, string> | null;
    ids?: string[] | null;
    after?: string | null;
    limit?: number | null;
  };
  "CompletionRequest": {
    model: string;
    prompt?: string | string[] | number[] | number[][] | null;
    max_tokens?: number | null;
    temperature?: number | null;
    top_p?: number | null;
    n?: number | null;
    best_of?: number | null;
    stop?: string | string[] | null;
    seed?: number | null;
    echo?: boolean | null;
    suffix?: string | null;
    logprobs?: number | null;
    frequency_penalty?: number | null;
    presence_penalty?: number | null;
    logit_bias?: Record<string, number> | null;
    stream?: boolean | null;
    stream_options?: Schemas["StreamOptions"] | null;
    user?: string | null;
  };
  "Costs": {
    currency: string;
    own: Schemas["OwnCost"] | null;
    kilowatt_hours: number | null;
    openai: Schemas["Price"][];
  };
  "Cure": {
    changes: Record<string, string>;
    peak_bytes: number;
  };
  "DataReport": {
    notes?: string[] | null;
    object: "luthier.data_report";
    file: string;
    role: string;
    bytes: number;
    ok: boolean;
    method: string | null;
    format: string | null;
    num_lines: number;
    num_faulty_rows: number;
    num_faults: number;
    num_warnings: number;
    by_code: Record<string, Schemas["FindingCount"]>;
    counts: Record<string, unknown>;
    error: Schemas["FileFault"] | null;
    findings: Schemas["Finding"][];
  };
  "DatasetTask": {
    id: string;
    object: "luthier.dataset_task";
    kind: "check" | "doctor" | "fix" | "redact" | "split" | "import" | "export" | "preview" | "forecast";
    status: "queued" | "running" | "completed" | "failed" | "cancelled";
    created_at: number;
    finished_at: number | null;
    options: Record<string, unknown>;
    progress: Schemas["TaskProgress"] | null;
    num_findings: number;
    result: Record<string, unknown> | null;
    error: Schemas["TaskError"] | null;
  };
  "DatasetUse": {
    object: "luthier.dataset_use";
    file_id: string;
    jobs: number;
    unfinished: number;
    named: Schemas["UsingJob"][];
  };
  "Decision": {
    name: string;
    value: unknown;
    reason: string;
  };
  "Deleted": {
    id: string;
    object: string;
    deleted: true;
  };
  "Dependents": {
    aliases: string[];
    jobs: string[];
  };
  "DeprecatedFunction": {
    name: string;
    description?: string | null;
    parameters?: Record<string, unknown> | null;
  };
  "Device": {
    kind: "cpu" | "gpu";
    name: string;
    cores: number | null;
    memory_total: number | null;
    memory_free: number | null;
  };
  "Disk": {
    total: number;
    free: number;
    watched_seconds: number;
    bytes_per_day: number | null;
    seconds_to_full: number | null;
  };
  "DoctorReport": {
    notes?: string[] | null;
    object: "luthier.doctor_report";
    file: string;
    num_rows: number;
    format: string | null;
    num_findings: number;
    num_serious: number;
    findings: Schemas["Advice"][];
    checks: string[];
    skipped: Record<string, string>;
    statistics: Schemas["DoctorStatistics"];
  };
  "DoctorRequest": {
    wait_seconds?: number;
    file_id: string;
    validation_file_id?: string | null;
    method?: "supervised" | "dpo" | "reinforcement" | null;
    model?: string | null;
    losses?: boolean;
    seed?: number;
  };
  "DoctorStatistics": {
    losses?: Schemas["MeasuredLosses"] | null;
    labels?: Record<string, number> | null;
  };
  "Dpo": {
    hyperparameters?: Schemas["DpoHyperparameters-Input"] | null;
  };
  "DpoHyperparameters-Input": {
    n_epochs?: "auto" | number | null;
    batch_size?: "auto" | number | null;
    learning_rate_multiplier?: "auto" | number | null;
    beta?: "auto" | number | null;
  };
  "DpoHyperparameters-Output": {
    n_epochs: number | "auto";
    batch_size: number | "auto";
    learning_rate_multiplier: number | "auto";
    beta: number | "auto";
  };
  "DpoMethod": {
    hyperparameters: Schemas["DpoHyperparameters-Output"];
  };
  "EarlyStopping": {
    patience?: number | null;
    min_delta?: number | null;
  };
  "Endpoint": {
    id: string;
    object: "webhook_endpoint";
    created_at: number;
    updated_at: number;
    name: string;
    url: string;
    event_types: string[];
    signing_secret_hint: string;
  };
  "EndpointCreateRequest": {
    name: string;
    url: string;
    event_types: ("fine_tuning.job.succeeded" | "fine_tuning.job.failed" | "fine_tuning.job.cancelled" | "batch.completed" | "batch.failed" | "batch.expired" | "batch.cancelled")[];
  };
  "EndpointTest": {
    object: "webhook_endpoint.test";
    webhook_endpoint_id: string;
    event_type: string;
    status_code: number;
    success: true;
  };
  "EndpointTestRequest": {
    event_type: "fine_tuning.job.succeeded" | "fine_tuning.job.failed" | "fine_tuning.job.cancelled" | "batch.completed" | "batch.failed" | "batch.expired" | "batch.cancelled";
  };
  "EndpointUpdateRequest": {
    name?: string | null;
    url?: string | null;
    event_types?: ("fine_tuning.job.succeeded" | "fine_tuning.job.failed" | "fine_tuning.job.cancelled" | "batch.completed" | "batch.failed" | "batch.expired" | "batch.cancelled")[] | null;
  };
  "EngineState": {
    loaded: string[];
    active: number;
    threads: number;
    uptime_seconds: number;
  };
  "EpochRow": {
    epoch: number;
    n_epochs: number;
    step: number;
    train_loss: number | null;
    train_accuracy: number;
    valid_loss: number | null;
    valid_accuracy: number | null;
    sample_loss: number | null;
    seconds: number;
    preference: Record<string, number> | null;
    valid_preference: Record<string, number> | null;
    observation: string;
  };
  "Error": {
    message: string;
    type: string;
    param: string | null;
    code: string | null;
  };
  "ErrorReply": {
    error: Schemas["Error"];
  };
  "Evaluation": {
    n: number;
    rule?: string | null;
    base: Schemas["Means"];
    tuned: Schemas["Means"];
    better: number;
    worse: number;
    same: number;
    samples: Schemas["ComparedAnswer"][];
    preference?: Record<string, unknown> | null;
  };
  "Event": {
    object: "fine_tuning.job.event";
    id: string;
    created_at: number;
    level: "info" | "warn" | "error";
    message: string;
    type: "message" | "metrics";
    data: Record<string, unknown>;
  };
  "EventTypeList": {
    object: "list";
    data: string[];
  };
  "ExpiresAfter": {
    anchor: "created_at";
    seconds: number;
  };
  "ExportRequest": {
    wait_seconds?: number;
    file_id: string;
    format: "csv" | "alpaca" | "sharegpt";
    skip_bad?: boolean;
    filename?: string | null;
  };
  "FailureReason": {
    code: string;
    message: string;
  };
  "File": {
    id: string;
    object: "file";
    bytes: number;
    created_at: number;
    expires_at: number | null;
    filename: string;
    purpose: string;
    status: "uploaded" | "processed" | "error";
    status_details: string | null;
  };
  "FileFault": {
    code: string;
    message: string;
    param: string;
  };
  "FileFromCompletions": {
    id: string;
    object: "file";
    bytes: number;
    created_at: number;
    expires_at: number | null;
    filename: string;
    purpose: string;
    status: "uploaded" | "processed" | "error";
    status_details: string | null;
    luthier: Schemas["RescuedRows"];
  };
  "Finding": {
    file: string;
    line: number;
    column: number | null;
    path: string | null;
    code: string;
    severity: "error" | "warning";
    message: string;
    cure: string;
    api_code: string | null;
  };
  "FindingCount": {
    count: number;
    first_line: number;
  };
  "FindingList": {
    object: "list";
    data: Record<string, unknown>[];
    has_more: false;
  };
  "FixRequest": {
    wait_seconds?: number;
    file_id: string;
    to_chat?: boolean;
    diff?: boolean;
    filename?: string | null;
  };
  "FixedAnswer": {
    line: number;
    prompt: string;
    expected: string;
    answer: string;
  };
  "FixedAnswers": {
    epoch: number;
    held_out: boolean;
    answers: Schemas["FixedAnswer"][];
  };
  "Forecast": {
    basis: Schemas["Basis"];
    examples: number;
    n_epochs: number;
    batch_size: number;
    steps_per_epoch: number;
    total_steps: number;
    tokens_per_epoch: number;
    trained_per_epoch: number;
    tokens: number;
    longest: number;
    seconds: Schemas["Span"];
    parts: Schemas["TimePart"][];
    buckets: Schemas["LengthBucket"][];
    peak_bytes: Schemas["Span"];
    available_bytes: number;
    watts: number | null;
  };
  "ForecastChecked": {
    basis: string;
    forecast_seconds: [number, number, number];
    seconds: number;
    forecast_bytes: [number, number, number];
    peak_bytes: number;
    forecast_tokens: number;
    tokens: number;
  };
  "ForecastRequest": {
    wait_seconds?: number;
    training_file: string;
    validation_file?: string | null;
    model: string;
    method?: Schemas["Method"] | null;
    hyperparameters?: Schemas["Hyperparameters"] | null;
    luthier?: Schemas["LuthierOptions"] | null;
    seed?: number;
    dry_run?: boolean;
  };
  "ForecastResult": {
    notes?: string[] | null;
    model: string;
    base: string;
    method: string;
    forecast: Schemas["Forecast"];
    fits: boolean;
    refusal: string | null;
    cures: Schemas["Cure"][];
    costs: Schemas["Costs"];
    decisions: Schemas["NumberDecided"][];
    truncated: number;
    skipped: number;
  };
  "FromCompletionsRequest": {
    metadata?: Record<string, string> | null;
    model?: string | null;
    after?: string | null;
    limit?: number | null;
    filename?: string | null;
  };
  "FunctionCall": {
    name: string;
    arguments: string;
  };
  "FunctionDefinition": {
    name: string;
    description?: string | null;
    parameters?: Record<string, unknown> | null;
    strict?: boolean | null;
  };
  "GraderMessage": {
    role: "user" | "assistant" | "system" | "developer";
    content: string | Record<string, unknown> | (string | Record<string, unknown>)[];
    type?: "message" | null;
  };
  "GraderSampling": {
    seed?: number | null;
    top_p?: number | null;
    temperature?: number | null;
    max_completions_tokens?: number | null;
    reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | null;
  };
  "Hyperparameters": {
    n_epochs?: "auto" | number | null;
    batch_size?: "auto" | number | null;
    learning_rate_multiplier?: "auto" | number | null;
  };
  "ImportRequest": {
    wait_seconds?: number;
    file_id?: string | null;
    stored_completions?: Schemas["CompletionFilterRequest"] | null;
    source?: string | null;
    map?: Record<string, string> | null;
    skip_bad?: boolean;
    filename?: string | null;
  };
  "Imported": {
    notes?: string[] | null;
    rows: number;
    left_out: number;
    completions_read?: number | null;
    files: Schemas["ImportedFile"];
  };
  "ImportedFile": {
    training: string;
  };
  "Incomplete": {
    reason: "max_output_tokens";
  };
  "InputTokens": {
    object: "response.input_tokens";
    input_tokens: number;
  };
  "InputTokensRequest": {
    model: string;
    input?: string | ({
      type: "message";
      role: "user" | "assistant" | "system" | "developer";
      content: string;
    } | {
      type: "message";
      role: "user" | "system" | "developer";
      content: {
        type: "input_text";
        text: string;
      }[];
    } | {
      type: "message";
      role: "assistant";
      content: {
        type: "output_text";
        text: string;
      }[];
    } | {
      type: "function_call";
      call_id: string;
      name: string;
      arguments: string;
    } | {
      type: "function_call_output";
      call_id: string;
      output: string;
    } | {
      type: "item_reference";
      id: string;
    })[] | null;
    instructions?: string | null;
    previous_response_id?: string | null;
    tools?: Schemas["ResponseTool"][] | null;
    tool_choice?: "none" | "auto" | "required" | {
      type: "function";
    } | {
      type: "allowed_tools";
      mode: "auto" | "required";
      tools: Record<string, unknown>[];
    } | null;
    text?: Schemas["TextConfig"] | null;
    conversation?: unknown;
    truncation?: "auto" | "disabled" | null;
    parallel_tool_calls?: boolean | null;
    reasoning?: Schemas["Reasoning"] | null;
    personality?: string | null;
  };
  "Insight": {
    text: string;
    rule: string;
    view: string;
    anchor: string;
  };
  "Integration": {
    type: "wandb";
    wandb: Schemas["Wandb"];
  };
  "Job": {
    id: string;
    object: "fine_tuning.job";
    created_at: number;
    finished_at: number | null;
    model: string;
    fine_tuned_model: string | null;
    organization_id: string;
    status: "validating_files" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
    hyperparameters: Schemas["JobHyperparameters"];
    method: Schemas["JobMethod"] | Schemas["JobDpoMethod"];
    training_file: string;
    validation_file: string | null;
    result_files: string[];
    trained_tokens: number | null;
    error: Schemas["JobError"] | null;
    integrations: Schemas["JobIntegration"][] | null;
    seed: number;
    estimated_finish: number | null;
    metadata: Record<string, string> | null;
    user_provided_suffix: string | null;
    usage_metrics: null;
    shared_with_openai: boolean;
    eval_id: null;
    luthier: Record<string, unknown>;
  };
  "JobCreateRequest": {
    model: string;
    training_file: string;
    validation_file?: string | null;
    suffix?: string | null;
    seed?: number | null;
    method?: Schemas["Method"] | null;
    hyperparameters?: Schemas["Hyperparameters"] | null;
    integrations?: Schemas["Integration"][] | null;
    metadata?: Record<string, string> | null;
    luthier?: Schemas["LuthierOptions"] | null;
  };
  "JobDpoMethod": {
    type: "dpo";
    dpo: Schemas["DpoMethod"];
  };
  "JobError": {
    code: string | null;
    message: string | null;
    param: string | null;
  };
  "JobHyperparameters": {
    n_epochs: number | "auto";
    batch_size: number | "auto";
    learning_rate_multiplier: number | "auto";
  };
  "JobIntegration": {
    type: "wandb";
    wandb: Schemas["JobWandb"];
  };
  "JobMethod": {
    type: "supervised";
    supervised: Schemas["SupervisedMethod"];
  };
  "JobRow": {
    object: "luthier.job";
    id: string;
    status: "validating_files" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
    created_at: number;
    started_at: number | null;
    finished_at: number | null;
    model: string;
    base: string;
    method: string;
    adapter: string;
    suffix: string | null;
    fine_tuned_model: string | null;
    metadata: Record<string, string> | null;
    training_file: string;
    validation_file: string | null;
    step: number | null;
    total_steps: number | null;
    epoch: number | null;
    total_epochs: number | null;
    train_loss: number | null;
    valid_loss: number | null;
    best_valid_loss: number | null;
    eta_seconds: number | null;
    queue_place: number | null;
    error: Schemas["RowError"] | null;
  };
  "JobRowList": {
    object: "list";
    data: Schemas["JobRow"][];
    has_more: boolean;
    total: number;
  };
  "JobView": {
    object: "luthier.job_view";
    job: Schemas["JobRow"];
    view: Schemas["TraceView"];
    step_count: number;
    quiz: Schemas["Quiz"] | null;
    insight: Schemas["Insight"] | null;
    code: Schemas["Code"];
    openai_cost: Record<string, unknown> | null;
  };
  "JobWandb": {
    project: string;
    name: string | null;
    entity: string | null;
    tags: string[];
    run_id: string;
  };
  "JsonSchema": {
    name: string;
    description?: string | null;
    strict?: boolean | null;
    schema: Record<string, unknown>;
  };
  "Key": {
    id: string;
    object: "luthier.api_key";
    name: string;
    role: "read-only" | "member" | "admin";
    project_id: string;
    redacted_value: string;
    created_at: number | null;
    created_by: string | null;
    revoked_at: number | null;
    limits: Schemas["KeyLimits-Output"];
  };
  "KeyCreateRequest": {
    name: string;
    role?: "admin" | "member" | "read-only";
    project_id?: string;
    limits?: Schemas["KeyLimits-Input"];
  };
  "KeyLimits-Input": {
    requests_per_minute?: number | null;
    tokens_per_minute?: number | null;
    concurrent_generations?: number | null;
    jobs_per_day?: number | null;
  };
  "KeyLimits-Output": {
    requests_per_minute: number | null;
    tokens_per_minute: number | null;
    concurrent_generations: number | null;
    jobs_per_day: number | null;
  };
  "KeyUpdateRequest": {
    name?: string | null;
    limits?: Schemas["KeyLimits-Input"];
  };
  "LabelModel": {
    pass_threshold?: number | null;
    name: string;
    type: "label_model";
    model: string;
    input: Schemas["GraderMessage"][];
    labels: string[];
    passing_labels: string[];
  };
  "LengthBucket": {
    shortest: number;
    longest: number;
    steps: number;
    seconds: number;
  };
  "ListOf_Alias_": {
    object: "list";
    data: Schemas["Alias"][];
    has_more: boolean;
  };
  "ListOf_Cancelled_": {
    object: "list";
    data: Schemas["Cancelled"][];
    has_more: boolean;
  };
  "ListOf_DatasetUse_": {
    object: "list";
    data: Schemas["DatasetUse"][];
    has_more: boolean;
  };
  "ListOf_Event_": {
    object: "list";
    data: Schemas["Event"][];
    has_more: boolean;
  };
  "ListOf_Job_": {
    object: "list";
    data: Schemas["Job"][];
    has_more: boolean;
  };
  "ListOf_Key_": {
    object: "list";
    data: Schemas["Key"][];
    has_more: boolean;
  };
  "ListOf_ModelRow_": {
    object: "list";
    data: Schemas["ModelRow"][];
    has_more: boolean;
  };
  "ListOf_Project_": {
    object: "list";
    data: Schemas["Project"][];
    has_more: boolean;
  };
  "ListOf_TraceEvent_": {
    object: "list";
    data: Schemas["TraceEvent"][];
    has_more: boolean;
  };
  "LossQuantiles": {
    min: number;
    p05: number;
    p25: number;
    median: number;
    p75: number;
    p95: number;
    max: number;
    mean: number;
  };
  "LuthierOptions": {
    adapter?: "lora" | "rslora" | "dora" | "full" | null;
    rank?: number | null;
    alpha?: number | null;
    targets?: string | string[] | null;
    quantization?: "nf4" | null;
    max_length?: number | null;
    skip_untrained?: boolean | null;
    schedule?: "linear" | "cosine" | "constant" | null;
    warmup_steps?: number | null;
    warmup_ratio?: number | null;
    min_rate_ratio?: number | null;
    optimizer?: "adamw" | "sgd" | "lion" | "adafactor" | null;
    weight_decay?: number | null;
    beta1?: number | null;
    beta2?: number | null;
    max_grad_norm?: number | null;
    early_stopping?: boolean | Schemas["EarlyStopping"] | null;
    keep?: "last" | "best" | null;
    max_skipped_steps?: number | null;
    on_loss_spike?: "tell" | "halve" | null;
    packing?: "auto" | "on" | "off" | null;
    gradient_checkpointing?: boolean | null;
    neftune_alpha?: number | null;
    prompt_loss_weight?: number | null;
    preference_loss?: "dpo" | "orpo" | "kto" | null;
    range_test?: boolean | null;
    priority?: number | null;
  };
  "Means": {
    loss: number | null;
    accuracy: number;
    exact_match: number;
  };
  "MeasuredLosses": {
    model: string;
    num_measured: number;
    num_tokens?: number | null;
    loss?: Schemas["LossQuantiles"] | null;
    accuracy?: number | null;
    bounds?: Record<string, number | null> | null;
  };
  "Memory": {
    total: number | null;
    available: number | null;
    api_bytes: number | null;
    engine_bytes: number | null;
  };
  "Method": {
    type: "supervised" | "dpo" | "reinforcement";
    supervised?: Schemas["Supervised"] | null;
    dpo?: Schemas["Dpo"] | null;
    reinforcement?: Schemas["Reinforcement"] | null;
  };
  "Metrics": {
    object: "luthier.metrics";
    steps: number;
    bucket: number;
    series: Schemas["Series"];
  };
  "Model": {
    id: string;
    object: "model";
    created: number;
    owned_by: string;
    shutdown_date: string | null;
    luthier: Schemas["OpenBase"];
  };
  "ModelList": {
    object: "list";
    data: Schemas["Model"][];
  };
  "ModelPublished": {
    model_name: string;
    bytes: number;
    load_seconds: number;
    first_token_seconds: number;
    tokens_per_second: number;
  };
  "ModelRow": {
    object: "luthier.model";
    id: string;
    kind: "base" | "adapter" | "full";
    base: string;
    created_at: number;
    owned_by: string;
    job_id: string | null;
    step: number | null;
    bytes: number | null;
    licence: string | null;
    runs_on: string | null;
    source: string | null;
    aliases: string[];
    checkpoints: string[];
    deletable: boolean;
    dependents: Schemas["Dependents"];
  };
  "Multi": {
    pass_threshold?: number | null;
    name: string;
    type: "multi";
    graders: Schemas["StringCheck"] | Schemas["TextSimilarity"] | Schemas["ScoreModel"] | Schemas["Python"] | Schemas["LabelModel"] | (Schemas["StringCheck"] | Schemas["TextSimilarity"] | Schemas["ScoreModel"] | Schemas["Python"] | Schemas["LabelModel"])[] | Record<string, Schemas["StringCheck"] | Schemas["TextSimilarity"] | Schemas["ScoreModel"] | Schemas["Python"] | Schemas["LabelModel"]>;
    calculate_output: string;
  };
  "NewEndpoint": {
    id: string;
    object: "webhook_endpoint";
    created_at: number;
    updated_at: number;
    name: string;
    url: string;
    event_types: string[];
    signing_secret_hint: string;
    signing_secret: string;
  };
  "NewKey": {
    id: string;
    object: "luthier.api_key";
    name: string;
    role: "read-only" | "member" | "admin";
    project_id: string;
    redacted_value: string;
    created_at: number | null;
    created_by: string | null;
    revoked_at: number | null;
    limits: Schemas["KeyLimits-Output"];
    value: string;
  };
  "NotReady": {
    status: "not_ready";
    reasons: Record<string, string>;
  };
  "Notice": {
    level: string;
    message: string;
  };
  "NumberDecided": {
    name: string;
    value: unknown;
    reason: string;
  };
  "OpenBase": {
    kind: "base" | "adapter" | "full" | "alias";
    base: string;
    base_revision: string | null;
    licence: string | null;
    alias_of: string | null;
    job_id?: string | null;
    step?: number | null;
    source?: string | null;
    size_bytes?: number | null;
    runs_on?: "fast" | "generic" | null;
  };
  "OutputMessage": {
    id: string;
    type: "message";
    status: "in_progress" | "completed" | "incomplete";
    content: Schemas["OutputText"][];
    role: "assistant";
  };
  "OutputText": {
    type: "output_text";
    annotations: unknown[];
    logprobs: Schemas["ChatToken"][];
    text: string;
  };
  "OwnCost": {
    low: number;
    likely: number;
    high: number;
  };
  "PageOf_Batch_": {
    object: "list";
    data: Schemas["Batch"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_Checkpoint_": {
    object: "list";
    data: Schemas["Checkpoint"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_DatasetTask_": {
    object: "list";
    data: Schemas["DatasetTask"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_Endpoint_": {
    object: "list";
    data: Schemas["Endpoint"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_File_": {
    object: "list";
    data: Schemas["File"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_Permission_": {
    object: "list";
    data: Schemas["Permission"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_ResponseItem_": {
    object: "list";
    data: Schemas["ResponseItem"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_StoredChatCompletion_": {
    object: "list";
    data: Schemas["StoredChatCompletion"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "PageOf_StoredMessage_": {
    object: "list";
    data: Schemas["StoredMessage"][];
    has_more: boolean;
    first_id: string | null;
    last_id: string | null;
  };
  "Permission": {
    id: string;
    object: "checkpoint.permission";
    created_at: number;
    project_id: string;
  };
  "PermissionCreateRequest": {
    project_ids: string[];
  };
  "PlainFormat": {
    type: "text";
  };
  "PredictionTraceObject": {
    object: "luthier.prediction_trace";
    model: string;
    base: string | null;
    prompt_tokens: Schemas["RenderedToken"][];
    tuned: Schemas["TraceSide"] | null;
    base_side: Schemas["TraceSide"] | null;
    forced: Schemas["TraceForced"] | null;
    embedding: Schemas["TraceEmbedding"] | null;
    layers: Schemas["TraceLayers"] | null;
    adapter: Schemas["TraceAdapterChange"][] | null;
    attention: Schemas["TraceAttention"] | null;
    nearest: Schemas["TraceNearestRow"][] | null;
    why: Schemas["TraceWhy"] | null;
    missing: Schemas["TraceMissing"][];
    seconds: number;
  };
  "PreviewProblem": {
    code: string;
    severity: "error" | "warning";
    message: string;
  };
  "PreviewRequest": {
    wait_seconds?: number;
    file_id: string;
    model?: string | null;
    line?: number;
    method?: "supervised" | "dpo" | "reinforcement" | null;
    max_length?: number | null;
    packing?: boolean;
  };
  "PreviewSequence": {
    name: string;
    num_tokens: number;
    num_trained: number;
    num_context: number;
    num_special: number;
    num_truncated: number;
    num_trained_lost: number;
    trained_share: number;
    first_trained: number | null;
    last_trained: number | null;
    num_shared: number;
    placement: Record<string, unknown> | null;
    tokens: Schemas["PreviewToken"][];
  };
  "PreviewToken": {
    id: number;
    text: string;
    bytes: number[];
    kind: "trained" | "context" | "special" | "truncated";
    lost: string | null;
    role: string;
    message: number;
    weight: number;
  };
  "Price": {
    model: string;
    per_million_tokens: number;
    amount: number;
    currency: string;
    source: string;
  };
  "Project": {
    id: string;
    object: "luthier.project";
    name: string;
    created_at: number;
  };
  "ProjectCreateRequest": {
    name: string;
  };
  "PromptDetails": {
    cached_tokens: number;
    audio_tokens: number;
  };
  "Python": {
    pass_threshold?: number | null;
    type: "python";
    name?: string | null;
    source: string;
    image_tag?: string | null;
  };
  "Queue": {
    jobs: Record<string, number>;
    waiting: number;
  };
  "Quiz": {
    questions: Schemas["QuizQuestion"][];
    note: string | null;
  };
  "QuizAnswer": {
    text: string;
    correct: boolean;
  };
  "QuizQuestion": {
    id: string;
    question: string;
    answers: Schemas["QuizAnswer"][];
    explanation: string;
    view: string;
    anchor: string;
  };
  "Ready": {
    status: "ready";
  };
  "Reasoning": {
    effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | null;
    summary?: "auto" | "concise" | "detailed" | null;
  };
  "RecordedAlternative": {
    token: string;
    probability: number;
  };
  "RecordedPrediction": {
    prompt: string;
    held_out: boolean;
    prompt_tokens: Schemas["RecordedToken"][];
    base: Schemas["RecordedSide"] | null;
    tuned: Schemas["RecordedSide"] | null;
  };
  "RecordedSide": {
    answer: string;
    path: Schemas["RecordedStep"][];
  };
  "RecordedStep": {
    token: string;
    probability: number;
    top: Schemas["RecordedAlternative"][];
    end?: boolean | null;
  };
  "RecordedToken": {
    id: number;
    text: string;
    kind: string;
    role: string | null;
    bytes?: number[] | null;
    message?: number | null;
  };
  "RedactRequest": {
    wait_seconds?: number;
    file_id: string;
    kinds?: ("secrets" | "emails" | "phones" | "cards" | "ibans" | "ips" | "ids")[] | null;
    filename?: string | null;
  };
  "ReferenceScored": {
    done: number;
    total: number;
    seconds: number;
    reused: boolean;
  };
  "Reinforcement": {
    grader: Schemas["StringCheck"] | Schemas["TextSimilarity"] | Schemas["ScoreModel"] | Schemas["Python"] | Schemas["Multi"];
    hyperparameters?: Schemas["ReinforcementHyperparameters"] | null;
    response_format?: Schemas["ResponseFormat"] | null;
  };
  "ReinforcementHyperparameters": {
    n_epochs?: "auto" | number | null;
    batch_size?: "auto" | number | null;
    learning_rate_multiplier?: "auto" | number | null;
    reasoning_effort?: "default" | "low" | "medium" | "high" | null;
    compute_multiplier?: "auto" | number | null;
    eval_interval?: "auto" | number | null;
    eval_samples?: "auto" | number | null;
  };
  "RenderRequest": {
    model: string;
    messages: Schemas["ChatMessage"][];
    add_generation_prompt?: boolean;
  };
  "RenderedToken": {
    id: number;
    text: string;
    bytes: number[];
    kind: "trained" | "context" | "special";
    role: string | null;
    message: number | null;
  };
  "Rendering": {
    object: "luthier.rendering";
    model: string;
    tokens: Schemas["RenderedToken"][];
  };
  "RescuedRows": {
    rows: number;
    left_out: number;
  };
  "ResolvedSpec": {
    spec: Record<string, unknown>;
    decisions: Schemas["Decision"][];
    trainable_parameters: number;
    total_parameters: number;
  };
  "ResponseFormat": {
    type: "json_schema";
    json_schema: Schemas["JsonSchema"];
  };
  "ResponseItem": {
    id: string;
    type: "message" | "function_call" | "function_call_output";
    status: "in_progress" | "completed" | "incomplete";
    role?: "user" | "assistant" | "system" | "developer" | null;
    content?: Record<string, unknown>[] | null;
    call_id?: string | null;
    name?: string | null;
    arguments?: string | null;
    output?: string | Record<string, unknown>[] | null;
  };
  "ResponseObject": {
    id: string;
    object: "response";
    created_at: number;
    status: "completed" | "incomplete" | "in_progress" | "failed";
    background: false;
    completed_at: number | null;
    error: Schemas["FailureReason"] | null;
    incomplete_details: Schemas["Incomplete"] | null;
    instructions: string | null;
    max_output_tokens: number | null;
    max_tool_calls: number | null;
    model: string;
    output: Schemas["OutputMessage"][];
    parallel_tool_calls: boolean;
    previous_response_id: string | null;
    prompt_cache_key: string | null;
    prompt_cache_retention: "in_memory" | "24h" | null;
    reasoning: Schemas["ShownReasoning"];
    safety_identifier: string | null;
    service_tier: string;
    store: boolean;
    temperature: number;
    text: Schemas["ShownText"];
    tool_choice: string;
    tools: Schemas["ShownTool"][];
    top_logprobs: number;
    top_p: number;
    truncation: "auto" | "disabled";
    usage: Schemas["ResponseUsage"] | null;
    user: string | null;
    metadata: Record<string, string>;
  };
  "ResponseRequest": {
    model: string;
    input?: string | ({
      type: "message";
      role: "user" | "assistant" | "system" | "developer";
      content: string;
    } | {
      type: "message";
      role: "user" | "system" | "developer";
      content: {
        type: "input_text";
        text: string;
      }[];
    } | {
      type: "message";
      role: "assistant";
      content: {
        type: "output_text";
        text: string;
      }[];
    } | {
      type: "function_call";
      call_id: string;
      name: string;
      arguments: string;
    } | {
      type: "function_call_output";
      call_id: string;
      output: string;
    } | {
      type: "item_reference";
      id: string;
    })[] | null;
    instructions?: string | null;
    previous_response_id?: string | null;
    max_output_tokens?: number | null;
    temperature?: number | null;
    top_p?: number | null;
    top_logprobs?: number | null;
    include?: ("message.output_text.logprobs" | "reasoning.encrypted_content" | "file_search_call.results" | "web_search_call.results" | "web_search_call.action.sources" | "message.input_image.image_url" | "computer_call_output.output.image_url" | "code_interpreter_call.outputs")[] | null;
    text?: Schemas["TextConfig"] | null;
    tools?: Schemas["ResponseTool"][] | null;
    tool_choice?: "none" | "auto" | "required" | {
      type: "function";
    } | {
      type: "allowed_tools";
      mode: "auto" | "required";
      tools: Record<string, unknown>[];
    } | null;
    truncation?: "auto" | "disabled" | null;
    store?: boolean | null;
    metadata?: Record<string, string> | null;
    stream?: boolean | null;
    stream_options?: Schemas["ResponseStreamOptions"] | null;
    background?: boolean | null;
    conversation?: unknown;
    prompt?: Record<string, unknown> | null;
    context_management?: Record<string, unknown>[] | null;
    moderation?: Record<string, unknown> | null;
    parallel_tool_calls?: boolean | null;
    max_tool_calls?: number | null;
    reasoning?: Schemas["Reasoning"] | null;
    user?: string | null;
    safety_identifier?: string | null;
    prompt_cache_key?: string | null;
    prompt_cache_retention?: "in_memory" | "24h" | null;
    prompt_cache_options?: Record<string, unknown> | null;
    service_tier?: string | null;
    access_programs?: Record<string, unknown> | null;
    background_options?: Record<string, unknown> | null;
    image?: Record<string, unknown> | null;
  };
  "ResponseStreamOptions": {
    include_obfuscation?: boolean | null;
  };
  "ResponseTool": {
    type: string;
    name?: string | null;
    description?: string | null;
    parameters?: Record<string, unknown> | null;
    strict?: boolean | null;
  };
  "ResponseUsage": {
    input_tokens: number;
    input_tokens_details: Schemas["luthier__api__schemas__answer_objects__CachedTokens"];
    output_tokens: number;
    output_tokens_details: Schemas["luthier__api__schemas__answer_objects__ReasoningTokens"];
    total_tokens: number;
  };
  "ResumeSaved": {
    step: number;
    bytes: number;
    seconds: number;
  };
  "RowError": {
    code: string | null;
    message: string;
    param: string | null;
  };
  "RowLoss": {
    object: "luthier.row_loss";
    line: number;
    tokens: number;
    loss: number | null;
    first_loss: number | null;
  };
  "RowLossList": {
    object: "list";
    data: Schemas["RowLoss"][];
    has_more: boolean;
    epoch: number | null;
    epochs: number[];
  };
  "RowPreview": {
    notes?: string[] | null;
    object: "luthier.row_preview";
    file: string;
    line: number;
    format: string | null;
    ok: boolean;
    max_length: number;
    max_length_reason: string;
    model: string;
    sequences: Schemas["PreviewSequence"][];
    reference: Record<string, unknown> | null;
    problems: Schemas["PreviewProblem"][];
    packing: Record<string, unknown> | null;
    findings: Schemas["Finding"][];
  };
  "RunFinished": {
    status: string;
    error: Record<string, unknown> | null;
  };
  "RunStarted": {
    model: string;
    base: string;
    attempt: number;
    resumed_from_step: number;
  };
  "ScoreModel": {
    pass_threshold?: number | null;
    name: string;
    type: "score_model";
    model: string;
    input: Schemas["GraderMessage"][];
    range?: number[] | null;
    sampling_params?: Schemas["GraderSampling"] | null;
  };
  "SecretRotationRequest": {
    keep_old_secret_active_for_24_hours?: boolean | null;
  };
  "Series": {
    step: number[];
    train_loss_min: (number | null)[];
    train_loss_mean: (number | null)[];
    train_loss_max: (number | null)[];
    accuracy_mean: (number | null)[];
    learning_rate: (number | null)[];
    grad_norm_mean: (number | null)[];
    tokens_per_second: (number | null)[];
    valid: Schemas["ValidPoints"];
  };
  "Session": {
    object: "luthier.session";
    csrf: string;
    role: "admin" | "member" | "read-only";
    project_id: string;
    expires_at: number;
  };
  "ShownReasoning": {
    effort: string | null;
    summary: string | null;
  };
  "ShownText": {
    format: Schemas["PlainFormat"];
    verbosity: "low" | "medium" | "high";
  };
  "ShownTool": {
    type: "function";
    name: string;
    description: string | null;
    parameters: Record<string, unknown> | null;
    strict: boolean;
  };
  "Span": {
    low: number;
    likely: number;
    high: number;
  };
  "SplitRequest": {
    wait_seconds?: number;
    file_id?: string | null;
    stored_completions?: Schemas["CompletionFilterRequest"] | null;
    valid?: number;
    seed?: number;
    group_by?: string[] | null;
  };
  "StageFinished": {
    shape_in: string;
    did: string;
    shape_out: string;
    seconds: number;
    changes: string[];
    sample: Record<string, unknown>;
  };
  "StageState": {
    stage: "data_collection" | "data_preprocessing" | "fine_tuning_training" | "evaluation" | "deployment";
    status: "waiting" | "running" | "done";
    shape_in: string | null;
    report: Schemas["StageFinished"] | null;
  };
  "StepDone": {
    step: number;
    total_steps: number;
    epoch: number;
    loss: number;
    token_accuracy: number;
    num_tokens: number;
    learning_rate: number;
    grad_norm: number;
    seconds: number;
    valid_loss: number | null;
    valid_accuracy: number | null;
    lines: number[];
    preference: Record<string, number> | null;
    valid_preference: Record<string, number> | null;
    tokens: number | null;
    tokens_per_second: number | null;
    padding_share: number | null;
    memory_bytes: number | null;
    flops_utilization: number | null;
  };
  "StoredChatCompletion": {
    id: string;
    object: "chat.completion";
    created: number;
    model: string;
    service_tier: string;
    system_fingerprint: string;
    choices: Schemas["ChatChoice"][];
    usage: Schemas["Usage"];
    metadata?: Record<string, string> | null;
    request_id: string;
    temperature: number;
    top_p: number;
    presence_penalty: number;
    frequency_penalty: number;
    seed: number | null;
    input_user: string | null;
    tools: Record<string, unknown>[] | null;
    tool_choice: unknown;
    response_format: Record<string, unknown> | null;
  };
  "StoredCompletionUpdate": {
    metadata: Record<string, string> | null;
  };
  "StoredMessage": {
    id: string;
    role: string;
    content: string | null;
    content_parts: Record<string, unknown>[] | null;
    refusal: string | null;
    name?: string | null;
    tool_calls?: Schemas["AnsweredCall"][] | null;
    tool_call_id?: string | null;
    function_call?: Schemas["CalledFunction"] | null;
  };
  "StreamOptions": {
    include_usage?: boolean | null;
    include_obfuscation?: boolean | null;
  };
  "StringCheck": {
    pass_threshold?: number | null;
    name: string;
    type: "string_check";
    input: string;
    reference: string;
    operation: "eq" | "ne" | "like" | "ilike";
  };
  "Supervised": {
    hyperparameters?: Schemas["Hyperparameters"] | null;
  };
  "SupervisedMethod": {
    hyperparameters: Schemas["JobHyperparameters"];
  };
  "System": {
    object: "luthier.system";
    devices: Schemas["Device"][];
    memory: Schemas["Memory"];
    disk: Schemas["Disk"];
    queue: Schemas["Queue"];
    workers: Schemas["Worker"][];
    engine: Schemas["EngineState"] | null;
    keys: number;
    webhooks: number;
    versions: Record<string, string>;
  };
  "TaskError": {
    code: string;
    message: string;
    param: string | null;
  };
  "TaskProgress": {
    done: number;
    total: number | null;
    unit: string;
  };
  "TextChoice": {
    text: string;
    index: number;
    logprobs: Schemas["TextLogprobs"] | null;
    finish_reason: "stop" | "length";
  };
  "TextCompletion": {
    id: string;
    object: "text_completion";
    created: number;
    model: string;
    system_fingerprint: string;
    choices: Schemas["TextChoice"][];
    usage: Schemas["Usage"];
  };
  "TextConfig": {
    format?: Schemas["TextFormat"] | null;
    verbosity?: "low" | "medium" | "high" | null;
  };
  "TextFormat": {
    type: "text" | "json_object" | "json_schema";
  };
  "TextLogprobs": {
    tokens: string[];
    token_logprobs: (number | null)[];
    top_logprobs: (Record<string, number> | null)[];
    text_offset: number[];
  };
  "TextSimilarity": {
    pass_threshold?: number | null;
    name: string;
    type: "text_similarity";
    input: string;
    reference: string;
    evaluation_metric: "fuzzy_match" | "bleu" | "gleu" | "meteor" | "rouge_1" | "rouge_2" | "rouge_3" | "rouge_4" | "rouge_5" | "rouge_l";
  };
  "TimePart": {
    name: string;
    seconds: Schemas["Span"];
  };
  "Tool": {
    type: "function";
    function: Schemas["FunctionDefinition"];
  };
  "ToolCall": {
    id: string;
    type?: "function";
    function: Schemas["FunctionCall"];
  };
  "TopToken": {
    token: string;
    logprob: number;
    bytes: number[];
  };
  "TraceAdapterChange": {
    layer: number | null;
    module: string;
    relative_change: number | null;
  };
  "TraceAlternative": {
    id: number;
    token: string;
    probability: number;
    logprob: number;
  };
  "TraceAttention": {
    layer: number;
    heads: number;
    keys: number;
    queries: number[];
    mean: number[][];
    per_head_queries: number[];
    per_head: number[][][];
  };
  "TraceEmbedding": {
    norms: number[];
    token: number | null;
    neighbours: Schemas["TraceNeighbour"][] | null;
  };
  "TraceEvent": {
    schema: number;
    id: number;
    run: string;
    attempt: number;
    time: number;
    stage: string;
    type: string;
    data: Record<string, unknown>;
  };
  "TraceFirstLayer": {
    index: number;
    id: number;
    text: string;
    tuned_layer: number | null;
    base_layer: number | null;
  };
  "TraceForced": {
    source: "tuned" | "answer";
    tokens: Schemas["TraceForcedToken"][];
  };
  "TraceForcedToken": {
    id: number;
    text: string;
    tuned_logprob: number | null;
    base_logprob: number | null;
    change: number | null;
  };
  "TraceLayerSide": {
    top: number[][];
    probability: ((number | null)[])[];
    settled: number[];
    appears: (number | null)[];
    residual_norm: (number | null)[];
    attention_norm: (number | null)[] | null;
    mlp_norm: (number | null)[] | null;
    attention_share: (number | null)[] | null;
  };
  "TraceLayers": {
    count: number;
    positions: number[];
    sequence: Schemas["TraceSequenceToken"][];
    targets: (number | null)[];
    tokens: Record<string, string>;
    tuned: Schemas["TraceLayerSide"];
    base: Schemas["TraceLayerSide"] | null;
  };
  "TraceMissing": {
    tier: "A" | "B" | "C" | "nearest";
    reason: string;
  };
  "TraceNearestRow": {
    line: number;
    similarity: number;
    shared: string[];
    prompt: string;
    answer: string;
  };
  "TraceNeighbour": {
    id: number;
    token: string;
    cosine: number;
  };
  "TraceRequest": {
    model: string;
    base?: string | null;
    messages?: Schemas["ChatMessage"][] | null;
    prompt?: string | null;
    max_tokens?: number;
    tiers?: ("A" | "B" | "C")[] | null;
    layer?: number | null;
    token?: number | null;
    path?: number[] | null;
    answer?: string | null;
    nearest?: boolean;
  };
  "TraceSequenceToken": {
    id: number;
    token: string;
  };
  "TraceShifted": {
    id: number;
    text: string;
    tuned_logprob: number | null;
    base_logprob: number | null;
    change: number | null;
    index: number;
  };
  "TraceSide": {
    answer: string;
    finish_reason: "stop" | "length";
    path: Schemas["TraceStep"][];
  };
  "TraceStep": {
    id: number;
    token: string;
    probability: number;
    logprob: number | null;
    rank: number;
    entropy: number;
    forced: boolean;
    end: boolean;
    top: Schemas["TraceAlternative"][];
  };
  "TraceView": {
    run: string | null;
    last_id: number;
    started: Schemas["RunStarted"] | null;
    resumed_from: number[];
    stages: Schemas["StageState"][];
    spec: Schemas["ResolvedSpec"] | null;
    base: Schemas["BaseMeasured"] | null;
    reference: Schemas["ReferenceScored"] | null;
    first_step_at: number | null;
    steps: Schemas["StepDone"][];
    epochs: Schemas["EpochRow"][];
    answers: Schemas["FixedAnswers"][];
    checkpoints: Schemas["CheckpointSaved"][];
    resume: Schemas["ResumeSaved"] | null;
    evaluation: Schemas["Evaluation"] | null;
    prediction: Schemas["RecordedPrediction"] | null;
    published: Schemas["ModelPublished"] | null;
    forecast: Record<string, unknown> | null;
    forecast_checked: Schemas["ForecastChecked"] | null;
    notices: Schemas["Notice"][];
    finished: Schemas["RunFinished"] | null;
  };
  "TraceWhy": {
    most_shifted: Schemas["TraceShifted"][];
    first_layers: Schemas["TraceFirstLayer"][];
  };
  "Upload": {
    id: string;
    object: "upload";
    bytes: number;
    created_at: number;
    expires_at: number;
    filename: string;
    purpose: string;
    status: "pending" | "completed" | "cancelled" | "expired";
    file: Schemas["File"] | null;
  };
  "UploadCompleteRequest": {
    part_ids: string[];
    md5?: string | null;
  };
  "UploadCreateRequest": {
    filename: string;
    purpose: "assistants" | "batch" | "fine-tune" | "vision";
    bytes: number;
    mime_type: string;
    expires_after?: Schemas["ExpiresAfter"] | null;
  };
  "UploadPart": {
    id: string;
    object: "upload.part";
    created_at: number;
    upload_id: string;
  };
  "Usage": {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
    prompt_tokens_details: Schemas["PromptDetails"];
    completion_tokens_details: Schemas["CompletionDetails"];
  };
  "UsingJob": {
    id: string;
    suffix: string | null;
    status: string;
  };
  "ValidPoints": {
    step: number[];
    loss: (number | null)[];
    accuracy: (number | null)[];
    full: boolean[];
  };
  "Wandb": {
    project: string;
    name?: string | null;
    entity?: string | null;
    tags?: string[] | null;
  };
  "Worker": {
    role: string;
    seconds_since_beat: number | null;
    alive: boolean;
  };
  "luthier__api__schemas__answer_objects__CachedTokens": {
    cached_tokens: number;
    cache_write_tokens: number;
  };
  "luthier__api__schemas__answer_objects__ReasoningTokens": {
    reasoning_tokens: number;
  };
  "luthier__api__schemas__batch_objects__CachedTokens": {
    cached_tokens: number;
  };
  "luthier__api__schemas__batch_objects__ReasoningTokens": {
    reasoning_tokens: number;
  };
}

/** Route -> its JSON body and its JSON answer. */
export interface Routes {
  "POST /v1/files": { body: undefined; answer: Schemas["File"] };
  "GET /v1/files": { body: undefined; answer: Schemas["PageOf_File_"] };
  "GET /v1/files/{file_id}": { body: undefined; answer: Schemas["File"] };
  "DELETE /v1/files/{file_id}": { body: undefined; answer: Schemas["Deleted"] };
  "GET /v1/files/{file_id}/content": { body: undefined; answer: unknown };
  "POST /v1/uploads": { body: Schemas["UploadCreateRequest"]; answer: Schemas["Upload"] };
  "POST /v1/uploads/{upload_id}/parts": { body: undefined; answer: Schemas["UploadPart"] };
  "POST /v1/uploads/{upload_id}/complete": { body: Schemas["UploadCompleteRequest"]; answer: Schemas["Upload"] };
  "POST /v1/uploads/{upload_id}/cancel": { body: undefined; answer: Schemas["Upload"] };
  "POST /v1/fine_tuning/jobs": { body: Schemas["JobCreateRequest"]; answer: Schemas["Job"] };
  "GET /v1/fine_tuning/jobs": { body: undefined; answer: Schemas["ListOf_Job_"] };
  "GET /v1/fine_tuning/jobs/{job_id}": { body: undefined; answer: Schemas["Job"] };
  "POST /v1/fine_tuning/jobs/{job_id}/cancel": { body: undefined; answer: Schemas["Job"] };
  "POST /v1/fine_tuning/jobs/{job_id}/pause": { body: undefined; answer: Schemas["Job"] };
  "POST /v1/fine_tuning/jobs/{job_id}/resume": { body: undefined; answer: Schemas["Job"] };
  "GET /v1/fine_tuning/jobs/{job_id}/events": { body: undefined; answer: Schemas["ListOf_Event_"] };
  "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": { body: undefined; answer: Schemas["PageOf_Checkpoint_"] };
  "POST /v1/fine_tuning/checkpoints/{name}/permissions": { body: Schemas["PermissionCreateRequest"]; answer: Schemas["PageOf_Permission_"] };
  "GET /v1/fine_tuning/checkpoints/{name}/permissions": { body: undefined; answer: Schemas["PageOf_Permission_"] };
  "DELETE /v1/fine_tuning/checkpoints/{name}/permissions/{permission_id}": { body: undefined; answer: Schemas["Deleted"] };
  "GET /v1/models": { body: undefined; answer: Schemas["ModelList"] };
  "GET /v1/models/{name}": { body: undefined; answer: Schemas["Model"] };
  "DELETE /v1/models/{name}": { body: undefined; answer: Schemas["Deleted"] };
  "POST /v1/luthier/trace": { body: Schemas["TraceRequest"]; answer: Schemas["PredictionTraceObject"] };
  "POST /v1/chat/completions": { body: Schemas["ChatRequest"]; answer: Schemas["ChatCompletion"] };
  "GET /v1/chat/completions": { body: undefined; answer: Schemas["PageOf_StoredChatCompletion_"] };
  "GET /v1/chat/completions/{completion_id}": { body: undefined; answer: Schemas["StoredChatCompletion"] };
  "POST /v1/chat/completions/{completion_id}": { body: Schemas["StoredCompletionUpdate"]; answer: Schemas["StoredChatCompletion"] };
  "DELETE /v1/chat/completions/{completion_id}": { body: undefined; answer: Schemas["Deleted"] };
  "GET /v1/chat/completions/{completion_id}/messages": { body: undefined; answer: Schemas["PageOf_StoredMessage_"] };
  "POST /v1/completions": { body: Schemas["CompletionRequest"]; answer: Schemas["TextCompletion"] };
  "POST /v1/responses": { body: Schemas["ResponseRequest"]; answer: Schemas["ResponseObject"] };
  "POST /v1/responses/input_tokens": { body: Schemas["InputTokensRequest"]; answer: Schemas["InputTokens"] };
  "GET /v1/responses/{response_id}": { body: undefined; answer: Schemas["ResponseObject"] };
  "DELETE /v1/responses/{response_id}": { body: undefined; answer: Schemas["Deleted"] };
  "POST /v1/responses/{response_id}/cancel": { body: undefined; answer: unknown };
  "GET /v1/responses/{response_id}/input_items": { body: undefined; answer: Schemas["PageOf_ResponseItem_"] };
  "GET /v1/luthier/jobs/{job_id}/trace": { body: undefined; answer: Schemas["ListOf_TraceEvent_"] };
  "GET /v1/luthier/jobs/{job_id}/row_losses": { body: undefined; answer: Schemas["RowLossList"] };
  "POST /v1/luthier/render": { body: Schemas["RenderRequest"]; answer: Schemas["Rendering"] };
  "GET /v1/luthier/openapi.json": { body: undefined; answer: Record<string, unknown> };
  "GET /v1/luthier/jobs": { body: undefined; answer: Schemas["JobRowList"] };
  "POST /v1/luthier/jobs/cancel": { body: Schemas["CancelJobsRequest"]; answer: Schemas["ListOf_Cancelled_"] };
  "GET /v1/luthier/jobs/{job_id}/view": { body: undefined; answer: Schemas["JobView"] };
  "GET /v1/luthier/jobs/{job_id}/metrics": { body: undefined; answer: Schemas["Metrics"] };
  "GET /v1/luthier/stream": { body: undefined; answer: unknown };
  "GET /v1/luthier/system": { body: undefined; answer: Schemas["System"] };
  "GET /v1/luthier/models": { body: undefined; answer: Schemas["ListOf_ModelRow_"] };
  "POST /v1/luthier/demo": { body: undefined; answer: Schemas["Job"] };
  "GET /v1/luthier/aliases": { body: undefined; answer: Schemas["ListOf_Alias_"] };
  "POST /v1/luthier/aliases": { body: Schemas["AliasCreateRequest"]; answer: Schemas["AliasWithHistory"] };
  "POST /v1/luthier/aliases/{name}/rollback": { body: undefined; answer: Schemas["AliasWithHistory"] };
  "POST /v1/luthier/aliases/{name}": { body: Schemas["AliasMoveRequest"]; answer: Schemas["AliasWithHistory"] };
  "GET /v1/luthier/aliases/{name}": { body: undefined; answer: Schemas["AliasWithHistory"] };
  "DELETE /v1/luthier/aliases/{name}": { body: undefined; answer: Schemas["Deleted"] };
  "POST /v1/luthier/files/from_completions": { body: Schemas["FromCompletionsRequest"]; answer: Schemas["FileFromCompletions"] };
  "GET /v1/webhook_event_types": { body: undefined; answer: Schemas["EventTypeList"] };
  "POST /v1/webhook_endpoints": { body: Schemas["EndpointCreateRequest"]; answer: Schemas["NewEndpoint"] };
  "GET /v1/webhook_endpoints": { body: undefined; answer: Schemas["PageOf_Endpoint_"] };
  "GET /v1/webhook_endpoints/{webhook_endpoint_id}": { body: undefined; answer: Schemas["Endpoint"] };
  "POST /v1/webhook_endpoints/{webhook_endpoint_id}": { body: Schemas["EndpointUpdateRequest"]; answer: Schemas["Endpoint"] };
  "DELETE /v1/webhook_endpoints/{webhook_endpoint_id}": { body: undefined; answer: Schemas["Deleted"] };
  "POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret": { body: Schemas["SecretRotationRequest"]; answer: Schemas["NewEndpoint"] };
  "POST /v1/webhook_endpoints/{webhook_endpoint_id}/test": { body: Schemas["EndpointTestRequest"]; answer: Schemas["EndpointTest"] };
  "POST /v1/luthier/keys": { body: Schemas["KeyCreateRequest"]; answer: Schemas["NewKey"] };
  "GET /v1/luthier/keys": { body: undefined; answer: Schemas["ListOf_Key_"] };
  "GET /v1/luthier/keys/{key_id}": { body: undefined; answer: Schemas["Key"] };
  "POST /v1/luthier/keys/{key_id}": { body: Schemas["KeyUpdateRequest"]; answer: Schemas["Key"] };
  "DELETE /v1/luthier/keys/{key_id}": { body: undefined; answer: Schemas["Deleted"] };
  "GET /v1/luthier/projects": { body: undefined; answer: Schemas["ListOf_Project_"] };
  "POST /v1/luthier/projects": { body: Schemas["ProjectCreateRequest"]; answer: Schemas["Project"] };
  "GET /v1/luthier/projects/{project_id}": { body: undefined; answer: Schemas["Project"] };
  "POST /v1/batches": { body: Schemas["BatchCreateRequest"]; answer: Schemas["Batch"] };
  "GET /v1/batches": { body: undefined; answer: Schemas["PageOf_Batch_"] };
  "GET /v1/batches/{batch_id}": { body: undefined; answer: Schemas["Batch"] };
  "POST /v1/batches/{batch_id}/cancel": { body: undefined; answer: Schemas["Batch"] };
  "POST /v1/luthier/datasets/check": { body: Schemas["CheckRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/doctor": { body: Schemas["DoctorRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/fix": { body: Schemas["FixRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/redact": { body: Schemas["RedactRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/split": { body: Schemas["SplitRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/import": { body: Schemas["ImportRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/export": { body: Schemas["ExportRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/preview": { body: Schemas["PreviewRequest"]; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/forecast": { body: Schemas["ForecastRequest"]; answer: Schemas["DatasetTask"] };
  "GET /v1/luthier/datasets/uses": { body: undefined; answer: Schemas["ListOf_DatasetUse_"] };
  "GET /v1/luthier/datasets/tasks": { body: undefined; answer: Schemas["PageOf_DatasetTask_"] };
  "GET /v1/luthier/datasets/tasks/{task_id}": { body: undefined; answer: Schemas["DatasetTask"] };
  "POST /v1/luthier/datasets/tasks/{task_id}/cancel": { body: undefined; answer: Schemas["DatasetTask"] };
  "GET /v1/luthier/datasets/tasks/{task_id}/findings": { body: undefined; answer: Schemas["FindingList"] };
  "GET /healthz": { body: undefined; answer: Schemas["Alive"] };
  "GET /readyz": { body: undefined; answer: Schemas["Ready"] };
}
