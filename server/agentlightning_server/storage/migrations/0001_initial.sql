-- Times are microseconds since 1970 by the server's clock. JSON of users is text, kept to the byte.

CREATE TABLE store (
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO store (revision) VALUES (0);

CREATE TABLE rollouts (
  id INTEGER PRIMARY KEY,  -- grows in order of creation
  rollout_id TEXT NOT NULL UNIQUE,
  run_id TEXT NOT NULL,
  queue TEXT NOT NULL,
  priority INTEGER NOT NULL,
  queue_position INTEGER NOT NULL,  -- kept while leased, so that released work finds its place again
  status TEXT NOT NULL CHECK (
    status IN ('queuing', 'preparing', 'running', 'requeuing', 'succeeded', 'failed', 'cancelled')
  ),
  mode INTEGER NOT NULL,
  input_json TEXT NOT NULL,
  resources_id TEXT NOT NULL,
  resources_version INTEGER NOT NULL,
  timeout INTEGER,
  unresponsive_timeout INTEGER,
  max_attempts INTEGER NOT NULL,
  retry_condition TEXT NOT NULL,  -- attempt statuses, separated by spaces
  max_redeliveries INTEGER NOT NULL,
  metadata_json TEXT NOT NULL,
  labels_json TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  end_time INTEGER,
  end_revision INTEGER,
  attempt_count INTEGER NOT NULL DEFAULT 0,
  redelivery_count INTEGER NOT NULL DEFAULT 0,
  release_count INTEGER NOT NULL DEFAULT 0,
  latest_attempt_id TEXT,
  revision INTEGER NOT NULL,
  CHECK ((end_time IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled')))
) STRICT;
CREATE INDEX rollouts_queue ON rollouts (queue, priority DESC, queue_position)
WHERE status IN ('queuing', 'requeuing');
CREATE INDEX rollouts_run ON rollouts (run_id, create_time, id);
CREATE INDEX rollouts_status ON rollouts (status, create_time, id);
CREATE INDEX rollouts_create_time ON rollouts (create_time, id);

CREATE TABLE attempts (
  attempt_id TEXT PRIMARY KEY,
  rollout_id TEXT NOT NULL REFERENCES rollouts (rollout_id) ON DELETE CASCADE,
  sequence_id INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (
    status IN ('preparing', 'running', 'succeeded', 'failed', 'timeout', 'unresponsive', 'cancelled')
  ),
  worker_id TEXT NOT NULL,
  start_time INTEGER NOT NULL,
  end_time INTEGER,
  last_heartbeat_time INTEGER,
  lease_duration INTEGER,
  lease_expire_time INTEGER,
  metadata_json TEXT NOT NULL DEFAULT '',
  failure BLOB,  -- agentlightning.v1.Failure
  lost INTEGER NOT NULL DEFAULT 0,  -- counted in the rollout's redelivery_count
  final_reward REAL,
  reward_sequence_id INTEGER NOT NULL DEFAULT 0,
  lost_span_count INTEGER NOT NULL DEFAULT 0,
  revision INTEGER NOT NULL,
  UNIQUE (rollout_id, sequence_id),
  CHECK ((end_time IS NULL) = (status IN ('preparing', 'running')))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX attempts_live ON attempts (rollout_id) WHERE status IN ('preparing', 'running');

-- A rollout with its latest attempt, whose columns begin with a_.
CREATE VIEW rollouts_with_attempt AS
SELECT r.*,
  a.attempt_id AS a_attempt_id,
  a.sequence_id AS a_sequence_id,
  a.status AS a_status,
  a.worker_id AS a_worker_id,
  a.start_time AS a_start_time,
  a.end_time AS a_end_time,
  a.last_heartbeat_time AS a_last_heartbeat_time,
  a.lease_duration AS a_lease_duration,
  a.lease_expire_time AS a_lease_expire_time,
  a.metadata_json AS a_metadata_json,
  a.failure AS a_failure,
  a.lost AS a_lost,
  a.final_reward AS a_final_reward,
  a.lost_span_count AS a_lost_span_count,
  a.revision AS a_revision
FROM rollouts AS r LEFT JOIN attempts AS a ON a.attempt_id = r.latest_attempt_id;

-- One counter a rollout, also for rollouts that are not there yet.
CREATE TABLE span_sequences (
  rollout_id TEXT PRIMARY KEY,
  last_sequence_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spans (
  id INTEGER PRIMARY KEY,
  rollout_id TEXT NOT NULL REFERENCES rollouts (rollout_id) ON DELETE CASCADE,
  attempt_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  sequence_id INTEGER NOT NULL,
  name TEXT NOT NULL,
  span BLOB NOT NULL,  -- agentlightning.v1.Span
  UNIQUE (attempt_id, span_id)
) STRICT;
CREATE INDEX spans_rollout ON spans (rollout_id, sequence_id, id);

CREATE TABLE resources (
  revision INTEGER PRIMARY KEY,  -- the order of writing: the greatest is the latest
  resources_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  resources BLOB NOT NULL,  -- agentlightning.v1.Resources
  UNIQUE (resources_id, version)
) STRICT;
CREATE INDEX resources_run ON resources (run_id, revision);

CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL UNIQUE,
  status INTEGER NOT NULL,
  run BLOB NOT NULL  -- agentlightning.v1.Run
) STRICT;

CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  status INTEGER NOT NULL,
  worker BLOB NOT NULL  -- agentlightning.v1.Worker
) STRICT, WITHOUT ROWID;

-- What creating and claiming calls answered, so that a repeat is answered the same.
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY,
  digest BLOB NOT NULL,
  answer BLOB NOT NULL,
  expire_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_expire_time ON requests (expire_time);
