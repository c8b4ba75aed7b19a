package runner

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

//go:embed service_config.json
var serviceConfig string

const (
	firstPause  = 100 * time.Millisecond
	longerBy    = 1.6
	longest     = 2 * time.Second
	callTimeout = 10 * time.Second
	defaultPort = "4747"
	// unexplainedTries is how often in a row a call is repeated that gRPC itself ended, for whatever reason.
	unexplainedTries = 5
)

// A StoreError is a call that the store refused.
type StoreError struct {
	// Reason is the name of an ErrorReason of the protocol; empty where the store did not say.
	Reason string
	// Err is gRPC's error.
	Err error
}

func (e *StoreError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the store refused a call: %v", e.Err)
	}
	return fmt.Sprintf("the store refused a call: %s: %s", e.Reason, status.Convert(e.Err).Message())
}

// Unwrap gives gRPC's error.
func (e *StoreError) Unwrap() error { return e.Err }

func connect(address string) (*grpc.ClientConn, error) {
	target, transport, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	// gRPC's own pauses between connections grow to two minutes: too long for a store that is back in seconds.
	pauses := backoff.Config{BaseDelay: firstPause, Multiplier: longerBy, Jitter: 0.2, MaxDelay: longest}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)),
	)
}

func parseAddress(address string) (string, credentials.TransportCredentials, error) {
	whole := address
	if !strings.Contains(address, "://") {
		whole = "grpc://" + address
	}
	parsed, err := url.Parse(whole)
	if err == nil && parsed.Hostname() != "" && strings.Trim(parsed.Path, "/") == "" {
		port := cmp.Or(parsed.Port(), defaultPort)
		target := net.JoinHostPort(parsed.Hostname(), port)
		_, portErr := strconv.ParseUint(port, 10, 16)
		switch {
		case portErr != nil:
		case parsed.Scheme == "grpc" || parsed.Scheme == "http":
			return target, insecure.NewCredentials(), nil
		case parsed.Scheme == "grpcs" || parsed.Scheme == "https":
			return target, credentials.NewTLS(&tls.Config{}), nil
		}
	}
	return "", nil, fmt.Errorf("the store's address is %q, expected host:port, or that after grpc://, http://, grpcs:// "+
		"or https://", address)
}

// repeat makes a call until the store has answered it, however long the store is away, or until ctx ends. Each try may
// take as long as timeout.
func repeat[T any](ctx context.Context, timeout time.Duration, call func(context.Context) (T, error)) (T, error) {
	unexplained := 0
	for pause := firstPause; ; pause = min(time.Duration(float64(pause)*longerBy), longest) {
		answer, err := try(ctx, timeout, call)
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
		switch reason := reasonOf(err); {
		case isWorthRepeating(err, reason):
			unexplained = 0
		case isUnexplained(err, reason) && unexplained < unexplainedTries:
			unexplained++
		default:
			return answer, &StoreError{Reason: reason, Err: err}
		}
		if !sleep(ctx, jittered(pause)) {
			return answer, context.Cause(ctx)
		}
	}
}

func try[T any](ctx context.Context, timeout time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx)
}

// reasonOf is why the store refused a call; empty when it was not the store that did.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "agentlightning" {
			return info.GetReason()
		}
	}
	return ""
}

func isWorthRepeating(err error, reason string) bool {
	if reason == "STORAGE_UNAVAILABLE" || reason == "SERVER_DRAINING" {
		return true
	}
	// The code speaks where there is no reason, and for those of a newer store. Canceled: by the server as it goes; the
	// caller's own end is looked at before.
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
}

// isUnexplained says whether gRPC itself ended a call: as it does to a store that stops in that moment, and to a message
// that cannot be sent.
func isUnexplained(err error, reason string) bool {
	code := status.Code(err)
	return reason == "" && (code == codes.Internal || code == codes.Unknown)
}

func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}

// outliving is a context that ends with parent, or a while after ctx has.
func outliving(parent, ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(parent)
	stop := context.AfterFunc(ctx, func() {
		sleep(longer, while)
		cancel()
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// sleep says whether ctx let it sleep to the end.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
