package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Config says which store a runner works for and how much it does at once.
type Config struct {
	// Store is the address: host:port, or a URL with grpc, http, grpcs or https; the latter two use TLS.
	Store string
	// Queue is the line that rollouts are taken from. Empty is "default".
	Queue string
	// Concurrency is how many rollouts run at once. 0 is 1.
	Concurrency int
	// MaxRollouts ends the runner after so many. 0 is any number.
	MaxRollouts int
	// WorkerID is the runner's name in the store. Empty is the host's name and the process.
	WorkerID string
	// TracerProvider records the spans of agents. Nil is one of the runner's own, found by
	// trace.SpanFromContext(ctx).TracerProvider(). A given one is joined and never shut down.
	TracerProvider *sdktrace.TracerProvider
	// Logger is told what happens. Nil is slog.Default().
	Logger *slog.Logger
}

// ConfigFromEnv reads AGL_STORE, AGL_QUEUE, AGL_CONCURRENCY and AGL_MAX_ROLLOUTS.
func ConfigFromEnv() (Config, error) {
	config := Config{Store: os.Getenv("AGL_STORE"), Queue: os.Getenv("AGL_QUEUE")}
	if config.Store == "" {
		return Config{}, errors.New("AGL_STORE is not set: give the store's address, for example localhost:4747")
	}
	var err error
	if config.Concurrency, err = countFromEnv("AGL_CONCURRENCY"); err != nil {
		return Config{}, err
	}
	if config.MaxRollouts, err = countFromEnv("AGL_MAX_ROLLOUTS"); err != nil {
		return Config{}, err
	}
	return config, nil
}

func (c Config) withDefaults() Config {
	if c.Queue == "" {
		c.Queue = "default"
	}
	c.Concurrency = max(c.Concurrency, 1)
	if c.WorkerID == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "go"
		}
		c.WorkerID = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func countFromEnv(name string) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return 0, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 {
		return 0, fmt.Errorf("%s is %q, expected a whole number of at least 1", name, text)
	}
	return count, nil
}
