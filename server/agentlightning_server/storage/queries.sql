-- Each query has a name, by which Python asks for it. `latest` attempts are joined as columns prefixed `a_`.

-- name: next_revision
UPDATE store SET revision = revision + 1 RETURNING revision;

-- name: revision
SELECT revision FROM store;

-- name: insert_rollout
INSERT INTO rollouts (
  rollout_id, run_id, queue, priority, queue_position, status, mode, input_json, resources_id, resources_version,
  timeout, unresponsive_timeout, max_attempts, retry_condition, max_redeliveries, metadata_json, labels_json,
  create_time, revision
) VALUES (
  :rollout_id, :run_id, :queue, :priority, :revision, 'queuing', :mode, :input_json, :resources_id, :resources_version,
  :timeout, :unresponsive_timeout, :max_attempts, :retry_condition, :max_redeliveries, :metadata_json, :labels_json,
  :now, :revision
);

-- name: rollout
SELECT * FROM rollouts_with_attempt WHERE rollout_id = :rollout_id;

-- name: rollouts_by_id
SELECT * FROM rollouts_with_attempt WHERE rollout_id IN (SELECT value FROM json_each(:rollout_ids));

-- name: queued_rollouts
SELECT rollout_id, run_id, resources_id, resources_version FROM rollouts
WHERE queue = :queue AND status IN ('queuing', 'requeuing')
ORDER BY priority DESC, queue_position
LIMIT :limit;

-- name: set_rollout_status
UPDATE rollouts SET
  status = :status,
  redelivery_count = :redelivery_count,
  release_count = :release_count,
  queue_position = :queue_position,
  end_time = :end_time,
  end_revision = :end_revision,
  revision = :revision
WHERE rollout_id = :rollout_id;

-- name: start_rollout_attempt
UPDATE rollouts SET
  status = 'preparing',
  attempt_count = attempt_count + 1,
  latest_attempt_id = :attempt_id,
  end_time = NULL,
  end_revision = NULL,
  revision = :revision
WHERE rollout_id = :rollout_id
RETURNING attempt_count;

-- name: pin_rollout_resources
UPDATE rollouts SET resources_id = :resources_id, resources_version = :version WHERE rollout_id = :rollout_id;

-- name: update_rollout_fields
UPDATE rollouts SET
  mode = :mode, input_json = :input_json, resources_id = :resources_id, resources_version = :resources_version,
  timeout = :timeout, unresponsive_timeout = :unresponsive_timeout, max_attempts = :max_attempts,
  retry_condition = :retry_condition, max_redeliveries = :max_redeliveries, metadata_json = :metadata_json,
  labels_json = :labels_json, revision = :revision
WHERE rollout_id = :rollout_id;

-- name: insert_attempt
INSERT INTO attempts (
  attempt_id, rollout_id, sequence_id, status, worker_id, start_time, lease_duration, lease_expire_time, revision
) VALUES (
  :attempt_id, :rollout_id, :sequence_id, 'preparing', :worker_id, :now, :lease_duration, :now + :lease_duration,
  :revision
);

-- name: attempt
SELECT * FROM attempts WHERE attempt_id = :attempt_id AND rollout_id = :rollout_id;

-- name: set_attempt_status
UPDATE attempts SET
  status = :status, lost = :lost, end_time = :end_time, lease_expire_time = :lease_expire_time, failure = :failure,
  revision = :revision
WHERE attempt_id = :attempt_id;

-- name: touch_attempt
UPDATE attempts SET last_heartbeat_time = :now, lease_expire_time = :now + lease_duration
WHERE attempt_id = :attempt_id
RETURNING lease_expire_time;

-- name: set_attempt_reward
UPDATE attempts SET final_reward = :reward, reward_sequence_id = :sequence_id
WHERE attempt_id = :attempt_id AND reward_sequence_id <= :sequence_id;

-- name: set_lost_span_count
UPDATE attempts SET lost_span_count = :lost_span_count WHERE attempt_id = :attempt_id;

-- name: update_attempt_fields
UPDATE attempts SET
  worker_id = :worker_id, last_heartbeat_time = :last_heartbeat_time, metadata_json = :metadata_json,
  revision = :revision
WHERE attempt_id = :attempt_id;

-- name: renew_leases
UPDATE attempts SET lease_expire_time = :now + lease_duration, last_heartbeat_time = :now
WHERE status IN ('preparing', 'running') AND lease_duration IS NOT NULL;

-- name: live_attempts
SELECT rollout_id, attempt_id FROM attempts WHERE status IN ('preparing', 'running');

-- name: advance_sequence
INSERT INTO span_sequences (rollout_id, last_sequence_id) VALUES (:rollout_id, :count)
ON CONFLICT (rollout_id) DO UPDATE SET last_sequence_id = last_sequence_id + :count
RETURNING last_sequence_id;

-- name: raise_sequence
INSERT INTO span_sequences (rollout_id, last_sequence_id) VALUES (:rollout_id, :sequence_id)
ON CONFLICT (rollout_id) DO UPDATE SET last_sequence_id = max(last_sequence_id, :sequence_id);

-- name: last_sequence
SELECT last_sequence_id FROM span_sequences WHERE rollout_id = :rollout_id;

-- name: insert_span
INSERT INTO spans (rollout_id, attempt_id, span_id, sequence_id, name, span)
VALUES (:rollout_id, :attempt_id, :span_id, :sequence_id, :name, :span)
ON CONFLICT (attempt_id, span_id) DO NOTHING;

-- name: span_sequence
SELECT sequence_id FROM spans WHERE attempt_id = :attempt_id AND span_id = :span_id;

-- name: insert_resources
INSERT INTO resources (revision, resources_id, version, run_id, resources)
VALUES (:revision, :resources_id, :version, :run_id, :resources);

-- name: resources_version
SELECT resources FROM resources WHERE resources_id = :resources_id AND version = :version;

-- name: resources_last_version
SELECT resources FROM resources WHERE resources_id = :resources_id ORDER BY version DESC LIMIT 1;

-- name: resources_latest
SELECT resources FROM resources ORDER BY revision DESC LIMIT 1;

-- name: resources_latest_of_run
SELECT resources FROM resources WHERE run_id = :run_id ORDER BY revision DESC LIMIT 1;

-- name: insert_run
INSERT INTO runs (run_id, status, run) VALUES (:run_id, :status, :run);

-- name: run
SELECT run FROM runs WHERE run_id = :run_id;

-- name: update_run
UPDATE runs SET status = :status, run = :run WHERE run_id = :run_id;

-- name: worker
SELECT worker FROM workers WHERE worker_id = :worker_id;

-- name: put_worker
INSERT INTO workers (worker_id, status, worker) VALUES (:worker_id, :status, :worker)
ON CONFLICT (worker_id) DO UPDATE SET status = :status, worker = :worker;

-- name: request
SELECT digest, answer FROM requests WHERE request_id = :request_id AND expire_time > :now;

-- name: put_request
INSERT OR REPLACE INTO requests (request_id, digest, answer, expire_time)
VALUES (:request_id, :digest, :answer, :expire_time);

-- name: forget_requests
DELETE FROM requests WHERE request_id IN (
  SELECT request_id FROM requests WHERE expire_time <= :now ORDER BY expire_time LIMIT 100
);

-- name: count_rollouts
SELECT status, count(*) FROM rollouts GROUP BY status;

-- name: count_queues
SELECT queue, count(*), min(create_time) FROM rollouts WHERE status IN ('queuing', 'requeuing') GROUP BY queue;

-- name: count_others
SELECT
  (SELECT count(*) FROM attempts), (SELECT count(*) FROM spans),
  (SELECT count(DISTINCT resources_id) FROM resources), (SELECT count(*) FROM workers), (SELECT count(*) FROM runs);
