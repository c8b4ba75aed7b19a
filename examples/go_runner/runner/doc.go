// Package runner makes any Go function a runner of an Agent Lightning store.
//
// A runner takes rollouts from a queue, calls the function for each, and reports what came of it. The store is spoken
// to by its protocol alone (docs/protocol.md); what the function does is recorded by the OpenTelemetry SDK.
//
//	func main() {
//		runner.Main(func(ctx context.Context, task *runner.Task) (*float64, error) {
//			var question string
//			if err := task.Decode(&question); err != nil {
//				return nil, err
//			}
//			return new(grade(answer(ctx, question))), nil
//		})
//	}
package runner
