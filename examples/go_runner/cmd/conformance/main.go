// Conformance is the agent that tests/conformance has every runner run.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/agentlightning/protocol/examples/go_runner/runner"
)

type instructions struct {
	Log     string   `json:"log"`
	Steps   int      `json:"steps"`
	WaitFor string   `json:"wait_for"`
	Fail    *string  `json:"fail"`
	Reward  *float64 `json:"reward"`
}

func main() {
	runner.Main(follow)
}

func follow(ctx context.Context, task *runner.Task) (*float64, error) {
	var told instructions
	if err := task.Decode(&told); err != nil {
		return nil, err
	}
	if err := told.write("began"); err != nil {
		return nil, err
	}
	for _, resource := range task.Resources.GetResources() {
		if prompt := resource.GetPromptTemplate(); prompt != nil && resource.GetName() == "prompt" {
			if err := told.write("prompt " + prompt.GetTemplate()); err != nil {
				return nil, err
			}
		}
	}
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("conformance")
	for i := range told.Steps {
		_, span := tracer.Start(ctx, fmt.Sprintf("step-%d", i))
		span.End()
	}
	if told.WaitFor != "" && !appears(ctx, told.WaitFor) {
		return nil, told.write("stopped")
	}
	if told.Fail != nil {
		return nil, errors.Join(told.write("failed"), errors.New(*told.Fail))
	}
	return told.Reward, told.write("ended")
}

func (i instructions) write(line string) error {
	file, err := os.OpenFile(i.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, line)
	return errors.Join(err, file.Close())
}

func appears(ctx context.Context, path string) bool {
	for {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}
