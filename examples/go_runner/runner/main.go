package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main is the main function of a runner: it is configured by the environment (see ConfigFromEnv), and ends the process.
//
// At the first SIGTERM or SIGINT it takes no more rollouts, finishes those that run, and exits with 0. At the second it
// gives up those that run and exits with 143 or 130.
func Main(agent Agent) {
	os.Exit(run(agent))
}

func run(agent Agent) int {
	config, err := ConfigFromEnv()
	if err != nil {
		return complain(err)
	}
	runner, err := New(config, agent)
	if err != nil {
		return complain(err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	go func() {
		<-signals
		runner.Drain()
		stop(&stoppedBy{<-signals})
	}()
	err = runner.Run(ctx)
	if stopped, ok := errors.AsType[*stoppedBy](err); ok {
		return stopped.exitCode()
	}
	if err != nil {
		return complain(err)
	}
	return 0
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// stoppedBy is the second signal.
type stoppedBy struct{ signal os.Signal }

func (s *stoppedBy) Error() string { return "stopped by " + s.signal.String() }

func (s *stoppedBy) exitCode() int {
	if number, ok := s.signal.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 1
}
