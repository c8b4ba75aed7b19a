package runner

import (
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

func TestPlaceholdersAreFilledIn(t *testing.T) {
	values := map[string]any{
		"time": "10:00", "attendees": json.Number("4"), "needs": []any{"projector", "whiteboard"}, "open": true,
	}
	for template, want := range map[string]string{
		"no placeholders":           "no placeholders",
		"at {time} for {attendees}": "at 10:00 for 4",
		"needs {needs}":             "needs [projector, whiteboard]",
		"{open}{open}":              "truetrue",
		"{{time}} and }}{{":         "{time} and }{",
	} {
		got, err := Render(&pb.PromptTemplate{Template: template}, values)
		if err != nil || got != want {
			t.Errorf("Render(%q) = %q, %v; want %q", template, got, err, want)
		}
	}
}

func TestTemplatesThatCannotBeFilledInAreRefusedByName(t *testing.T) {
	for template, want := range map[string]string{
		"at {place}":  `"place"`,
		"{time:>8}":   `"time:>8"`,
		"a single {":  `'{'`,
		"a single } ": `'}'`,
	} {
		_, err := Render(&pb.PromptTemplate{Template: template}, map[string]any{"time": "10:00"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Render(%q) fails with %v; want it to name %s", template, err, want)
		}
	}
}

func TestOtherEnginesAreRefusedByName(t *testing.T) {
	template := &pb.PromptTemplate{Template: "{{ time }}", Engine: pb.TemplateEngine_TEMPLATE_ENGINE_JINJA}
	if _, err := Render(template, nil); err == nil || !strings.Contains(err.Error(), "JINJA") {
		t.Errorf("Render fails with %v; want it to name JINJA", err)
	}
}

func TestAPromptIsFoundByItsNameElseTheFirstIsTaken(t *testing.T) {
	task := &Task{Rollout: &pb.Rollout{}, Resources: &pb.Resources{Resources: []*pb.Resource{
		{Name: "tone", Kind: &pb.Resource_CustomJson{CustomJson: `"dry"`}},
		promptNamed("first", "1"), promptNamed("second", "2"),
	}}}
	for name, want := range map[string]string{"first": "1", "second": "2", "other": "1"} {
		if got, err := task.Prompt(name, nil); err != nil || got != want {
			t.Errorf("Prompt(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func promptNamed(name, text string) *pb.Resource {
	return &pb.Resource{
		Name: name, Kind: &pb.Resource_PromptTemplate{PromptTemplate: &pb.PromptTemplate{Template: text}},
	}
}
