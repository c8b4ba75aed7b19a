package runner

import (
	"context"
	"sync"
	"time"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// A hold is the runner's hold on one attempt, from its claim until it is lost or about to be completed.
type hold struct {
	ref      *pb.AttemptRef
	interval time.Duration
	// lost ends with a *loss as its cause when the attempt is no longer the runner's.
	lost context.Context
	lose context.CancelCauseFunc
}

// A loss says where an attempt stood when it was found lost.
type loss struct{ status pb.AttemptStatus }

func (l *loss) Error() string { return ErrLost.Error() + ": " + l.status.String() }

func (l *loss) Unwrap() error { return ErrLost }

// holds are all the attempts that the runner holds. The goroutines that renew them and hear of losses wait for changes.
type holds struct {
	mu      sync.Mutex
	held    map[string]*hold
	changed chan struct{} // closed and made anew at each change
}

func newHolds() *holds {
	return &holds{held: map[string]*hold{}, changed: make(chan struct{})}
}

// add holds an attempt that was claimed; it is lost with ctx at the latest.
func (h *holds) add(ctx context.Context, assignment *pb.Assignment) *hold {
	attempt := assignment.GetAttempt()
	lost, lose := context.WithCancelCause(ctx)
	added := &hold{
		ref:      &pb.AttemptRef{RolloutId: attempt.GetRolloutId(), AttemptId: attempt.GetAttemptId()},
		interval: assignment.GetHeartbeatInterval().AsDuration(),
		lost:     lost,
		lose:     lose,
	}
	h.change(func() { h.held[added.ref.AttemptId] = added })
	return added
}

func (h *holds) remove(gone *hold) {
	h.change(func() { delete(h.held, gone.ref.AttemptId) })
}

func (h *holds) lose(attemptID string, status pb.AttemptStatus) {
	h.mu.Lock()
	held := h.held[attemptID]
	h.mu.Unlock()
	if held != nil {
		h.remove(held)
		held.lose(&loss{status})
	}
}

// look gives what is held, and a channel that is closed when that changes.
func (h *holds) look() ([]*hold, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := make([]*hold, 0, len(h.held))
	for _, each := range h.held {
		held = append(held, each)
	}
	return held, h.changed
}

func (h *holds) change(how func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	how()
	close(h.changed)
	h.changed = make(chan struct{})
}

func refsOf(held []*hold) []*pb.AttemptRef {
	refs := make([]*pb.AttemptRef, len(held))
	for i, each := range held {
		refs[i] = each.ref
	}
	return refs
}
