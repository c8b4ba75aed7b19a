package runner

import (
	"encoding/json"
	"fmt"
	"strings"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// A Task is what an agent is given: the rollout, its attempt, and the resources that are tuned.
type Task struct {
	// Rollout is the rollout as it was claimed; its InputJson is the task to the byte.
	Rollout *pb.Rollout
	// Attempt is the attempt to run.
	Attempt *pb.Attempt
	// Resources are those pinned to the rollout, shared with other attempts and not to be changed. Nil: there are none.
	Resources *pb.Resources
}

// Decode reads the task's JSON into value, as json.Unmarshal does; numbers in a map or an any are kept as json.Number.
func (t *Task) Decode(value any) error {
	decoder := json.NewDecoder(strings.NewReader(t.Rollout.GetInputJson()))
	decoder.UseNumber()
	if err := decoder.Decode(value); err != nil {
		return fmt.Errorf("the task of %s is not what the agent expects: %w", t.Rollout.GetRolloutId(), err)
	}
	return nil
}

// Prompt renders the prompt template of a name; where there is none of that name, the first there is.
func (t *Task) Prompt(name string, values map[string]any) (string, error) {
	var first *pb.PromptTemplate
	for _, resource := range t.Resources.GetResources() {
		template := resource.GetPromptTemplate()
		if template != nil && resource.GetName() == name {
			return Render(template, values)
		}
		if first == nil {
			first = template
		}
	}
	if first == nil {
		return "", fmt.Errorf("the resources of %s have no prompt template %q", t.Rollout.GetRolloutId(), name)
	}
	return Render(first, values)
}
