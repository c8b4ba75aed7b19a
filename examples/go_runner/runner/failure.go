package runner

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/openai/openai-go/v3"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// Why the context of an agent ended, told by context.Cause.
var (
	// ErrLost means that the attempt was cancelled or given to another: nothing more is reported of it.
	ErrLost = errors.New("the attempt is no longer this runner's")
	// ErrTimeout means that the attempt took longer than its rollout allows.
	ErrTimeout = errors.New("the agent did not finish in time")
	// ErrStopped means that the runner was stopped during the attempt.
	ErrStopped = errors.New("the runner was stopped during the attempt")
)

const longestText = 16_000

// Infrastructure marks an error as none of the agent's fault: the rollout is delivered again and never scored by it.
// Errors of the network and of a model's server (429 and 5xx) need no mark. It is nil for nil.
func Infrastructure(err error) error {
	if err == nil {
		return nil
	}
	return &infrastructureError{err}
}

type infrastructureError struct{ error }

func (e *infrastructureError) Unwrap() error { return e.error }

// A panicError is an agent that panicked, or ended its goroutine.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

func failureOf(err error) *pb.Failure {
	failure := &pb.Failure{Kind: kindOf(err), Type: typeOf(err), Message: shortened(err.Error())}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		failure.Type = "panic"
		failure.StackTrace = shortened(panicked.stack)
	}
	return failure
}

func kindOf(err error) pb.FailureKind {
	switch {
	case errors.Is(err, ErrTimeout):
		return pb.FailureKind_FAILURE_KIND_TIMEOUT
	case isInfrastructure(err):
		return pb.FailureKind_FAILURE_KIND_INFRASTRUCTURE
	}
	return pb.FailureKind_FAILURE_KIND_AGENT
}

func isInfrastructure(err error) bool {
	if _, ok := errors.AsType[*infrastructureError](err); ok || errors.Is(err, ErrStopped) {
		return true
	}
	if _, ok := errors.AsType[*StoreError](err); ok {
		return true
	}
	// *url.Error, which wraps whatever fails below an http.Client, is a net.Error as well; also of a URL that is none.
	if malformed, ok := errors.AsType[*url.Error](err); ok && malformed.Op == "parse" {
		return false
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	answer, ok := errors.AsType[*openai.Error](err)
	return ok && (answer.StatusCode == 429 || answer.StatusCode >= 500)
}

// typeOf names the type of the error at the bottom: those that wrap it say little.
func typeOf(err error) string {
	if errors.Is(err, ErrStopped) {
		return "RunnerStopped"
	}
	if refused, ok := errors.AsType[*StoreError](err); ok {
		return fmt.Sprintf("%T", refused)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("%T", err)
}

// shortened cuts a text to what the store keeps of it, and to what protobuf can carry.
func shortened(text string) string {
	if len(text) > longestText {
		text = text[:longestText]
	}
	return valid(text)
}
