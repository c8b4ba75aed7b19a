package runner

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// called is what comes of an agent whose rollout may take a second, and how long that takes.
func called(ctx context.Context, agent Agent) (err error, took time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Second, ErrTimeout)
	defer cancel()
	runner := &Runner{agent: agent, log: slog.New(slog.DiscardHandler), resources: newResourceCache(nil)}
	began := time.Now()
	_, err = runner.call(ctx, &pb.Assignment{Rollout: &pb.Rollout{}})
	return err, time.Since(began)
}

func TestAnAgentThatIsOutOfTimeHasTimedOutWhateverItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err, took := called(t.Context(), func(ctx context.Context, _ *Task) (*float64, error) {
			<-ctx.Done()
			return new(1.0), nil
		})
		if !errors.Is(err, ErrTimeout) || took != time.Second {
			t.Errorf("after %v the error is %v", took, err)
		}
	})
}

func TestAnAgentThatDoesNotHeedItsContextIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		err, took := called(t.Context(), func(context.Context, *Task) (*float64, error) {
			<-release
			return nil, nil
		})
		if !errors.Is(err, ErrTimeout) || took != time.Second+patience {
			t.Errorf("after %v the error is %v", took, err)
		}
	})
}

func TestARunnerThatStopsTriesToSayWhatItLeavesUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		telling, cancel := outliving(t.Context(), ctx, lastWords)
		defer cancel()
		stop()
		time.Sleep(lastWords - time.Millisecond)
		before := telling.Err()
		<-telling.Done()
		if before != nil {
			t.Errorf("it ended too early: %v", before)
		}
	})
}

type noError struct{ text string }

func (e *noError) Error() string { return e.text }

func TestAnErrorThatIsANilPointerIsTheAgentsPanic(t *testing.T) {
	out := callAgent(t.Context(), func(context.Context, *Task) (*float64, error) {
		var none *noError
		return nil, none
	}, nil)
	if failure := failureOf(out.err); failure.GetType() != "panic" || failure.GetStackTrace() == "" {
		t.Errorf("the failure is %v", failure)
	}
}
