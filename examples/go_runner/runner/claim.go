package runner

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const (
	claimWait    = 30 * time.Second
	claimTimeout = claimWait + callTimeout
	// The store answers 0.2 s before a call's deadline: this is hardly a wait.
	lastClaimTimeout = 500 * time.Millisecond
	lastClaimLimit   = 2 * time.Second
	releaseTimeout   = 5 * time.Second
	rememberedClaims = 1000
	mostAtOnce       = 100
)

// claim takes rollouts by long-poll until ctx ends, and starts each.
//
// A long-poll and not the stream that pushes work: a claim whose answer is lost is made again with the same request_id
// and answered as the first was. What a broken stream had sent would stay leased until its lease ends.
func (r *Runner) claim(ctx context.Context, start func(*pb.Assignment)) error {
	var seen recent
	for left := r.config.MaxRollouts; ctx.Err() == nil; {
		free := r.slots.take(ctx, left)
		if free == 0 {
			return nil
		}
		assignments, err := r.dequeue(ctx, free)
		started := 0
		for _, assignment := range assignments {
			if seen.add(assignment.GetAttempt().GetAttemptId()) {
				start(assignment)
				started++
			}
		}
		r.slots.give(free - started)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if left > 0 {
			if left -= started; left == 0 {
				return nil
			}
		}
	}
	return nil
}

func (r *Runner) dequeue(ctx context.Context, most int) ([]*pb.Assignment, error) {
	request := &pb.DequeueRolloutsRequest{
		WorkerId: r.config.WorkerID, Queue: r.config.Queue, MaxRollouts: int32(most),
		WaitTimeout: durationpb.New(claimWait), RequestId: rand.Text(),
	}
	answer, err := repeat(ctx, claimTimeout, func(ctx context.Context) (*pb.DequeueRolloutsResponse, error) {
		return r.store.DequeueRollouts(ctx, request)
	})
	if ctx.Err() != nil {
		r.letGo(ctx, request)
		return nil, nil
	}
	return answer.GetAssignments(), err
}

// letGo gives back what a claim may have been answered that nobody waits for any more: none of it has begun.
func (r *Runner) letGo(ctx context.Context, request *pb.DequeueRolloutsRequest) {
	ctx = context.WithoutCancel(ctx)
	again, cancel := context.WithTimeout(ctx, lastClaimLimit)
	defer cancel()
	answer, err := repeat(again, lastClaimTimeout, func(ctx context.Context) (*pb.DequeueRolloutsResponse, error) {
		return r.store.DequeueRollouts(ctx, request)
	})
	if err != nil || len(answer.GetAssignments()) == 0 {
		return
	}
	release := &pb.ReleaseAttemptsRequest{}
	for _, assignment := range answer.GetAssignments() {
		attempt := assignment.GetAttempt()
		release.Attempts = append(release.Attempts,
			&pb.AttemptRef{RolloutId: attempt.GetRolloutId(), AttemptId: attempt.GetAttemptId()})
	}
	soon, cancelSoon := context.WithTimeout(ctx, releaseTimeout)
	defer cancelSoon()
	_, err = repeat(soon, callTimeout, func(ctx context.Context) (*pb.ReleaseAttemptsResponse, error) {
		return r.store.ReleaseAttempts(ctx, release)
	})
	if err != nil {
		r.log.Warn("attempts were not given back: their leases will end", "count", len(release.Attempts), "error", err)
	}
}

// slots are the rollouts that may run at once.
type slots chan struct{}

func newSlots(count int) slots {
	free := make(slots, count)
	free.give(count)
	return free
}

// take waits for one and takes all that are free, at most as many as one claim may ask for and as limit unless that is
// 0. It is 0 when ctx ends.
func (s slots) take(ctx context.Context, limit int) int {
	select {
	case <-ctx.Done():
		return 0
	case <-s:
	}
	for taken := 1; ; taken++ {
		if taken == limit || taken == mostAtOnce {
			return taken
		}
		select {
		case <-s:
		default:
			return taken
		}
	}
}

func (s slots) give(count int) {
	for range count {
		s <- struct{}{}
	}
}

// recent are the attempts claimed last, so that one that is delivered twice runs once.
type recent struct {
	known map[string]bool
	order []string
}

func (r *recent) add(attemptID string) bool {
	if r.known[attemptID] {
		return false
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	r.known[attemptID] = true
	if r.order = append(r.order, attemptID); len(r.order) > rememberedClaims {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	return true
}
