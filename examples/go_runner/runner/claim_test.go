package runner

import (
	"context"
	"strconv"
	"testing"
	"time"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

func TestAllFreeSlotsAreTakenAtOnce(t *testing.T) {
	if got := newSlots(3).take(t.Context(), 0); got != 3 {
		t.Errorf("%d were taken, want 3", got)
	}
}

func TestNoMoreSlotsAreTakenThanRolloutsAreLeft(t *testing.T) {
	if got := newSlots(3).take(t.Context(), 2); got != 2 {
		t.Errorf("%d were taken, want 2", got)
	}
}

func TestASlotThatIsGivenBackIsTaken(t *testing.T) {
	slots := newSlots(1)
	slots.take(t.Context(), 0)
	go slots.give(1)
	if got := slots.take(t.Context(), 0); got != 1 {
		t.Errorf("%d were taken, want 1", got)
	}
}

func TestNoSlotIsWaitedForOnceItIsTimeToStop(t *testing.T) {
	slots := newSlots(1)
	slots.take(t.Context(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := slots.take(ctx, 0); got != 0 {
		t.Errorf("%d were taken, want 0", got)
	}
}

func TestAnAttemptIsNewOnce(t *testing.T) {
	var seen recent
	if first, second := seen.add("at-1"), seen.add("at-1"); !first || second {
		t.Errorf("new at first: %v, again: %v", first, second)
	}
}

func TestOnlyTheLastAttemptsAreRemembered(t *testing.T) {
	var seen recent
	for i := range rememberedClaims + 10 {
		seen.add(strconv.Itoa(i))
	}
	if len(seen.known) != rememberedClaims || len(seen.order) != rememberedClaims {
		t.Errorf("%d and %d are remembered, want %d", len(seen.known), len(seen.order), rememberedClaims)
	}
}

func TestHeartbeatsComeAsOftenAsTheAttemptThatNeedsThemMost(t *testing.T) {
	held := []*hold{{interval: 20 * time.Second}, {interval: 0}, {interval: 2 * time.Second}}
	if got := shortestInterval(held); got != 2*time.Second {
		t.Errorf("the interval is %v, want 2 s", got)
	}
}

func TestAnAttemptThatIsLostIsHeldNoMore(t *testing.T) {
	holds := newHolds()
	held := holds.add(t.Context(), &pb.Assignment{Attempt: &pb.Attempt{AttemptId: "at-1"}})
	holds.lose("at-1", pb.AttemptStatus_ATTEMPT_STATUS_CANCELLED)
	left, _ := holds.look()
	if cause := context.Cause(held.lost); len(left) != 0 || cause == nil {
		t.Errorf("%d are held, the cause is %v", len(left), cause)
	}
}
