package runner

import (
	"context"
	"time"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const shortestHeartbeatTimeout = time.Second

// heartbeat renews all that is held in one call, as often as the assignment that wants it most often asks.
func (r *Runner) heartbeat(ctx context.Context) {
	last := time.Now()
	for {
		held, changed := r.holds.look()
		interval := shortestInterval(held)
		var due <-chan time.Time
		if interval > 0 {
			due = time.After(time.Until(last.Add(interval)))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-due:
			last = time.Now()
			r.beat(ctx, held, max(interval, shortestHeartbeatTimeout))
		}
	}
}

// beat is not repeated: the next one comes soon enough.
func (r *Runner) beat(ctx context.Context, held []*hold, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := &pb.HeartbeatAttemptsRequest{Attempts: refsOf(held), WorkerId: r.config.WorkerID}
	answer, err := r.store.HeartbeatAttempts(ctx, request)
	if err != nil {
		r.log.Warn("the store did not answer a heartbeat", "error", err)
		return
	}
	for _, result := range answer.GetResults() {
		if !result.GetHeld() {
			r.holds.lose(result.GetAttemptId(), result.GetStatus())
		}
	}
}

// shortestInterval is 0 when nothing has a lease to be renewed.
func shortestInterval(held []*hold) time.Duration {
	var shortest time.Duration
	for _, each := range held {
		if each.interval > 0 && (shortest == 0 || each.interval < shortest) {
			shortest = each.interval
		}
	}
	return shortest
}
