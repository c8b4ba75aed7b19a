package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const (
	agentFailure          = pb.FailureKind_FAILURE_KIND_AGENT
	infrastructureFailure = pb.FailureKind_FAILURE_KIND_INFRASTRUCTURE
	timeoutFailure        = pb.FailureKind_FAILURE_KIND_TIMEOUT
)

func TestAFailureSaysWhoIsToBlame(t *testing.T) {
	for name, each := range map[string]struct {
		err  error
		want pb.FailureKind
	}{
		"an error of the agent":       {errors.New("no idea"), agentFailure},
		"a panic":                     {&panicError{value: "index out of range"}, agentFailure},
		"a request that is refused":   {&openai.Error{StatusCode: 400}, agentFailure},
		"too many requests":           {&openai.Error{StatusCode: 429}, infrastructureFailure},
		"a model's server that fails": {fmt.Errorf("asking: %w", &openai.Error{StatusCode: 503}), infrastructureFailure},
		"a connection":                {&net.OpError{Op: "dial", Err: errors.New("refused")}, infrastructureFailure},
		"a client's request":          {&url.Error{Op: "Post", Err: errors.New("EOF")}, infrastructureFailure},
		"a URL that is none":          {&url.Error{Op: "parse", Err: errors.New("no port")}, agentFailure},
		"a deadline of the agent's":   {context.DeadlineExceeded, infrastructureFailure},
		"what the agent marks":        {fmt.Errorf("disk: %w", Infrastructure(errors.New("full"))), infrastructureFailure},
		"the store":                   {&StoreError{Reason: "RESOURCES_NOT_FOUND"}, infrastructureFailure},
		"a runner that is stopped":    {ErrStopped, infrastructureFailure},
		"the rollout's time":          {ErrTimeout, timeoutFailure},
	} {
		if got := kindOf(each.err); got != each.want {
			t.Errorf("%s is %v, want %v", name, got, each.want)
		}
	}
}

func TestAFailureNamesTheErrorThatWasWrapped(t *testing.T) {
	failure := failureOf(fmt.Errorf("asking: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}))
	if failure.GetType() != "syscall.Errno" || !strings.HasPrefix(failure.GetMessage(), "asking: dial") {
		t.Errorf("the failure is %v", failure)
	}
}

func TestAPanicIsAFailureWithItsStack(t *testing.T) {
	var rooms []string
	out := callAgent(t.Context(), func(context.Context, *Task) (*float64, error) { return nil, errors.New(rooms[3]) }, nil)
	failure := failureOf(out.err)
	if failure.GetType() != "panic" || !strings.Contains(failure.GetStackTrace(), "failure_test.go") {
		t.Errorf("the failure is %v", failure)
	}
}

func TestARewardThatIsNoFiniteNumberIsTheAgentsFailure(t *testing.T) {
	zero := 0.0
	out := callAgent(t.Context(), func(context.Context, *Task) (*float64, error) { return new(zero / zero), nil }, nil)
	if out.err == nil || kindOf(out.err) != agentFailure {
		t.Errorf("the outcome is %v", out)
	}
}

func TestATextThatIsCutStaysUTF8(t *testing.T) {
	text := shortened(strings.Repeat("a", longestText-1) + "é")
	if len(text) > longestText+2 || !strings.HasSuffix(text, "a\uFFFD") {
		t.Errorf("the text ends with %q", text[len(text)-4:])
	}
}
