package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const (
	rootSpan = "agentlightning.rollout"
	// patience is how long an agent whose context has ended may take to return before it is left behind.
	patience = 5 * time.Second
	// lastWords is how long a runner that stops tries to tell the store what it leaves undone.
	lastWords = 5 * time.Second
)

// attempt runs one attempt from its claim to its report. It is given up when ctx ends, and reported all the same.
func (r *Runner) attempt(ctx context.Context, assignment *pb.Assignment) {
	alive := context.WithoutCancel(ctx)
	held := r.holds.add(alive, assignment)
	defer held.lose(nil)
	defer r.holds.remove(held)
	record := newSpanRecord(held.ref.RolloutId, held.ref.AttemptId, assignment.GetNextSequenceId())
	log := r.log.With("rollout", held.ref.RolloutId, "attempt", held.ref.AttemptId)

	delivery, stopDelivery := context.WithCancel(held.lost)
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		record.deliver(delivery, r.exporter)
	}()
	outcome := r.run(ctx, held, assignment, record)
	stopDelivery()
	<-delivered
	r.spans.forget(record)
	r.report(ctx, held, record, outcome, log)
}

// An outcome is what came of an agent: a reward or none, or an error.
type outcome struct {
	reward *float64
	err    error
	root   trace.SpanContext
}

// run calls the agent within the root span of the attempt.
func (r *Runner) run(ctx context.Context, held *hold, assignment *pb.Assignment, record *spanRecord) (out outcome) {
	agentCtx, end := context.WithCancelCause(held.lost)
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(ErrStopped) })()
	if limit := assignment.GetRollout().GetConfig().GetTimeout(); limit != nil {
		var cancel context.CancelFunc
		agentCtx, cancel = context.WithTimeoutCause(agentCtx, limit.AsDuration(), ErrTimeout)
		defer cancel()
	}
	// The root is a root even where the caller of Run is inside a span of its own.
	tracer := r.tracers.Tracer("github.com/agentlightning/protocol/examples/go_runner")
	agentCtx, root := tracer.Start(context.WithValue(agentCtx, recordKey{}, record), rootSpan, trace.WithNewRoot())
	defer root.End()
	if !root.IsRecording() {
		r.log.Warn("the provider of tracers records no spans: nothing of this attempt can be learnt from",
			"rollout", held.ref.RolloutId)
	}
	out.root = root.SpanContext()
	out.reward, out.err = r.call(agentCtx, assignment)
	if out.err != nil {
		root.SetStatus(codes.Error, out.err.Error())
	}
	return out
}

// call gives the agent what it needs and waits for it. Once the context has ended, its cause is the outcome, whatever
// the agent makes of it.
func (r *Runner) call(ctx context.Context, assignment *pb.Assignment) (*float64, error) {
	resources, err := r.resources.get(ctx, assignment.GetRollout())
	if err != nil {
		return nil, causeOr(ctx, err)
	}
	task := &Task{Rollout: assignment.GetRollout(), Attempt: assignment.GetAttempt(), Resources: resources}
	ended := make(chan outcome, 1)
	go func() { ended <- callAgent(ctx, r.agent, task) }()
	select {
	case out := <-ended:
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return out.reward, out.err
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(patience):
		r.log.Warn("an agent does not heed its context and is left behind", "rollout", task.Rollout.GetRolloutId())
	}
	return nil, context.Cause(ctx)
}

// callAgent turns whatever an agent does into an outcome.
func callAgent(ctx context.Context, agent Agent, task *Task) (out outcome) {
	returned := false
	defer func() {
		switch value := recover(); {
		case value != nil:
			out = outcome{err: &panicError{value, string(debug.Stack())}}
		case !returned:
			out = outcome{err: &panicError{"the agent ended its goroutine", string(debug.Stack())}}
		}
	}()
	out.reward, out.err = agent(ctx, task)
	if out.err != nil {
		_ = out.err.Error() // panics here, not later, where the error is a nil pointer
	}
	returned = true
	if out.err == nil && out.reward != nil && (math.IsNaN(*out.reward) || math.IsInf(*out.reward, 0)) {
		out.err = fmt.Errorf("the agent returned %v, which is no reward: expected a finite number", *out.reward)
	}
	return out
}

func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// report delivers the last spans and completes the attempt; one that is lost is left as it is.
func (r *Runner) report(ctx context.Context, held *hold, record *spanRecord, out outcome, log *slog.Logger) {
	telling, cancel := outliving(held.lost, ctx, lastWords)
	defer cancel()
	err := record.flush(telling, r.exporter)
	if lost, ok := errors.AsType[*loss](context.Cause(held.lost)); ok {
		r.leaveEvidence(held, record, lost, log)
		return
	}
	if err == nil {
		r.holds.remove(held) // whose lease ends with the answer, which a heartbeat would take for a loss
		err = r.complete(telling, completion(held.ref, record, out))
	}
	if err != nil {
		log.Warn("the outcome was not reported", "error", err)
		return
	}
	logOutcome(log, out)
}

func (r *Runner) complete(ctx context.Context, request *pb.CompleteAttemptRequest) error {
	_, err := repeat(ctx, callTimeout, func(ctx context.Context) (*pb.CompleteAttemptResponse, error) {
		return r.store.CompleteAttempt(ctx, request)
	})
	return err
}

// leaveEvidence sends the last spans of an attempt that has ended otherwise; they change nothing. Not of one that was
// silent too long: they would bring it back to life.
func (r *Runner) leaveEvidence(held *hold, record *spanRecord, lost *loss, log *slog.Logger) {
	log.Warn("abandoned", "status", lost.status)
	switch lost.status {
	case pb.AttemptStatus_ATTEMPT_STATUS_TIMEOUT, pb.AttemptStatus_ATTEMPT_STATUS_FAILED,
		pb.AttemptStatus_ATTEMPT_STATUS_CANCELLED:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(held.lost), lastWords)
	defer cancel()
	if err := record.flush(ctx, r.exporter); err != nil {
		log.Warn("spans were not delivered", "count", record.lostCount(), "error", err)
	}
}

func logOutcome(log *slog.Logger, out outcome) {
	switch {
	case out.err != nil:
		log.Warn("failed", "error", out.err)
	case out.reward != nil:
		log.Debug("succeeded", "reward", *out.reward)
	default:
		log.Debug("succeeded")
	}
}
