package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func refusal(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	refused := status.New(code, "refused")
	if reason == "" {
		return refused.Err()
	}
	detailed, err := refused.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "agentlightning"})
	if err != nil {
		t.Fatal(err)
	}
	return detailed.Err()
}

func TestTheReasonDecidesWhetherACallIsRepeated(t *testing.T) {
	for name, each := range map[string]struct {
		err  error
		want bool
	}{
		"a store that is away":       {refusal(t, codes.Unavailable, ""), true},
		"a store that drains":        {refusal(t, codes.Unavailable, "SERVER_DRAINING"), true},
		"a disk that is full":        {refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE"), true},
		"no answer in time":          {refusal(t, codes.DeadlineExceeded, ""), true},
		"an attempt that has ended":  {refusal(t, codes.FailedPrecondition, "ATTEMPT_ENDED"), false},
		"a reason that is not known": {refusal(t, codes.Unavailable, "OF_A_NEWER_STORE"), true},
		"a bug":                      {refusal(t, codes.Internal, "BUG"), false},
		"a message that is too long": {refusal(t, codes.ResourceExhausted, ""), false},
	} {
		if got := isWorthRepeating(each.err, reasonOf(each.err)); got != each.want {
			t.Errorf("%s is repeated: %v, want %v", name, got, each.want)
		}
	}
}

func TestARefusalNamesItsReason(t *testing.T) {
	_, err := repeat(t.Context(), time.Second, func(context.Context) (int, error) {
		return 0, refusal(t, codes.NotFound, "RESOURCES_NOT_FOUND")
	})
	if refused, ok := errors.AsType[*StoreError](err); !ok || refused.Reason != "RESOURCES_NOT_FOUND" {
		t.Errorf("the error is %v", err)
	}
}

func TestACallIsRepeatedAfterLongerAndLongerPausesUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		_, err := repeat(t.Context(), time.Second, func(context.Context) (int, error) {
			if tries = append(tries, time.Now()); len(tries) < 20 {
				return 0, refusal(t, codes.Unavailable, "")
			}
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		first, last := tries[1].Sub(tries[0]), tries[19].Sub(tries[18])
		if !isAbout(first, firstPause) || !isAbout(last, longest) {
			t.Errorf("the first pause is %v, the last %v", first, last)
		}
	})
}

func TestACallThatIsEndedByGRPCItselfIsRepeatedAFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		_, err := repeat(t.Context(), time.Second, func(context.Context) (int, error) {
			tries++
			return 0, refusal(t, codes.Internal, "")
		})
		if _, ok := errors.AsType[*StoreError](err); !ok || tries != 1+unexplainedTries {
			t.Errorf("after %d tries the error is %v", tries, err)
		}
	})
}

func isAbout(pause, want time.Duration) bool {
	return pause >= want*8/10 && pause <= want*12/10
}

func TestAnAddressIsAHostOrAURL(t *testing.T) {
	for address, want := range map[string]string{
		"localhost:4747": "localhost:4747", "http://localhost:4747/": "localhost:4747", "grpcs://a.example:1": "a.example:1",
		"[::1]:4747": "[::1]:4747", "HTTP://localhost": "localhost:4747",
	} {
		if got, _, err := parseAddress(address); got != want || err != nil {
			t.Errorf("parseAddress(%q) = %q, %v", address, got, err)
		}
	}
	for _, address := range []string{
		"", "ftp://localhost", "localhost:port", "localhost:99999", ":4747", "http://localhost:4747/store",
	} {
		if _, _, err := parseAddress(address); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
}
