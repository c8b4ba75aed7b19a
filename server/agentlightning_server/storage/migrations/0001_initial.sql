-- Times are microseconds since 1970 by the server's clock. JSON of users is text, kept to the byte.

CREATE TABLE store (
  revision INTEGER NOT NULL DEFAULT 0,
  forgotten_revision INTEGER NOT NULL DEFAULT 0,  -- of the last deletion whose tombstone is gone
  attempt_count INTEGER NOT NULL DEFAULT 0,  -- kept, because counting rows reads them all
  span_count INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO store DEFAULT VALUES;

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
  retry_policies BLOB,  -- agentlightning.v1.RolloutConfig with nothing else in it
  metadata_json TEXT NOT NULL,
  labels_json TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  end_time INTEGER,
  end_revision INTEGER,
  attempt_count INTEGER NOT NULL DEFAULT 0,
  redelivery_count INTEGER NOT NULL DEFAULT 0,
  release_count INTEGER NOT NULL DEFAULT 0,
  latest_attempt_id TEXT,
  available_time INTEGER,  -- set while it is queued and a back-off keeps it from being claimed
  final_reward REAL,  -- of the latest attempt
  revision INTEGER NOT NULL,
  end_order INTEGER NOT NULL AS (coalesce(end_time, 4611686018427387904)),  -- what has not ended will end last
  reward_order REAL NOT NULL AS (coalesce(final_reward, -9e999)),
  CHECK ((end_time IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled')))
) STRICT;
CREATE INDEX rollouts_queue ON rollouts (queue, priority DESC, queue_position)
WHERE status IN ('queuing', 'requeuing') AND available_time IS NULL;
CREATE INDEX rollouts_queue_age ON rollouts (queue, create_time) WHERE status IN ('queuing', 'requeuing');
CREATE INDEX rollouts_available_time ON rollouts (available_time) WHERE available_time IS NOT NULL;
CREATE INDEX rollouts_run ON rollouts (run_id, create_time);
CREATE INDEX rollouts_run_end_time ON rollouts (run_id, end_time) WHERE end_time IS NOT NULL;
CREATE INDEX rollouts_of_queue ON rollouts (queue, create_time);  -- a run has a queue of its own
CREATE INDEX rollouts_status ON rollouts (status, create_time);
CREATE INDEX rollouts_create_time ON rollouts (create_time);
CREATE INDEX rollouts_end_time ON rollouts (end_order);
CREATE INDEX rollouts_final_reward ON rollouts (reward_order);
CREATE UNIQUE INDEX rollouts_revision ON rollouts (revision);

-- How many rollouts of each queue are in each status: kept by each commit, because counting rows reads them all.
CREATE TABLE rollout_counts (
  queue TEXT NOT NULL,
  status TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (queue, status)
) STRICT, WITHOUT ROWID;
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
  rollout_id TEXT NOT NULL,  -- no foreign key: those of a deleted rollout go after it, in steps
  attempt_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  sequence_id INTEGER NOT NULL,
  trace_id TEXT NOT NULL,
  parent_span_id TEXT NOT NULL,
  name TEXT NOT NULL,
  start_time INTEGER,  -- by the clock of its maker
  end_time INTEGER,
  span BLOB NOT NULL,  -- agentlightning.v1.Span
  UNIQUE (attempt_id, span_id)
) STRICT;
CREATE INDEX spans_rollout ON spans (rollout_id, sequence_id);

CREATE TABLE resources (
  revision INTEGER PRIMARY KEY,  -- the order of writing: the greatest is the latest
  resources_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  create_time INTEGER NOT NULL,  -- of the first version
  update_time INTEGER NOT NULL,
  is_last INTEGER NOT NULL DEFAULT 1,  -- of its id
  resources BLOB NOT NULL,  -- agentlightning.v1.Resources
  UNIQUE (resources_id, version)
) STRICT;
CREATE INDEX resources_run ON resources (run_id, revision);
-- Small, as there is one entry an id, and seldom written: lists pass over no earlier version.
CREATE INDEX resources_last ON resources (revision) WHERE is_last;
CREATE INDEX resources_last_of_run ON resources (run_id, revision) WHERE is_last;
CREATE TRIGGER resources_superseded AFTER INSERT ON resources WHEN new.version > 1 BEGIN
  UPDATE resources SET is_last = 0 WHERE resources_id = new.resources_id AND version = new.version - 1;
END;

CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL UNIQUE,
  queue TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  status INTEGER NOT NULL,
  labels_json TEXT NOT NULL,
  revision INTEGER NOT NULL,
  run BLOB NOT NULL  -- agentlightning.v1.Run
) STRICT;
CREATE UNIQUE INDEX runs_revision ON runs (revision);

CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  status TEXT NOT NULL DEFAULT 'unknown' CHECK (status IN ('unknown', 'idle', 'busy')),
  heartbeat_stats_json TEXT NOT NULL DEFAULT '',
  last_heartbeat_time INTEGER,
  last_dequeue_time INTEGER,
  last_busy_time INTEGER,
  last_idle_time INTEGER,
  current_rollout_id TEXT NOT NULL DEFAULT '',
  current_attempt_id TEXT NOT NULL DEFAULT '',
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX workers_revision ON workers (revision);

-- What was deleted, for those who watch.
CREATE TABLE tombstones (
  revision INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  queue TEXT NOT NULL,
  delete_time INTEGER NOT NULL
) STRICT;

-- Deleted rollouts whose spans are still to go.
CREATE TABLE deletions (
  rollout_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What creating and claiming calls answered, so that a repeat is answered the same.
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY,
  digest BLOB NOT NULL,
  answer BLOB NOT NULL,
  expire_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_expire_time ON requests (expire_time);
