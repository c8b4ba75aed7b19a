package runner

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

type dequeueStream = grpc.BidiStreamingClient[pb.StreamDequeueRequest, pb.StreamDequeueResponse]

const farewell = time.Second

// hearOfLosses keeps a StreamDequeue without credits, which tells of a lost attempt the moment it is lost. Heartbeats
// tell it too, only later: nothing depends on the stream.
func (r *Runner) hearOfLosses(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		began := time.Now()
		after := r.listen(ctx)
		if time.Since(began) > longest {
			pause = firstPause
		}
		sleep(ctx, max(after, jittered(pause)))
		pause = min(time.Duration(float64(pause)*longerBy), longest)
	}
}

// listen opens one stream and stays until it ends, which it asks for when ctx ends or the store goes away. It says how
// long the store wants to be left alone.
func (r *Runner) listen(ctx context.Context) time.Duration {
	streamCtx, cancel := outliving(context.WithoutCancel(ctx), ctx, farewell)
	defer cancel()
	stream, err := r.store.StreamDequeue(streamCtx)
	if err != nil {
		return 0
	}
	goingAway := make(chan struct{})
	go r.tellHolds(ctx, stream, goingAway)
	return r.receive(stream, goingAway)
}

// tellHolds names what is held when the stream opens and what is claimed after, and half-closes in the end.
func (r *Runner) tellHolds(ctx context.Context, stream dequeueStream, goingAway <-chan struct{}) {
	held, changed := r.holds.look()
	err := stream.Send(&pb.StreamDequeueRequest{Message: &pb.StreamDequeueRequest_Open_{
		Open: &pb.StreamDequeueRequest_Open{WorkerId: r.config.WorkerID, Queue: r.config.Queue, Held: refsOf(held)},
	}})
	told := map[string]bool{}
	for _, each := range held {
		told[each.ref.AttemptId] = true
	}
	for err == nil {
		select {
		case <-ctx.Done():
			_ = stream.CloseSend() // it never fails
			return
		case <-goingAway:
			_ = stream.CloseSend()
			return
		case <-stream.Context().Done():
			return
		case <-changed:
			held, changed = r.holds.look()
			told, err = tellNew(stream, held, told)
		}
	}
}

// tellNew names those that were not named before, and gives those that need not be named again.
func tellNew(stream dequeueStream, held []*hold, told map[string]bool) (map[string]bool, error) {
	known := make(map[string]bool, len(held))
	for _, each := range held {
		known[each.ref.AttemptId] = true
		if told[each.ref.AttemptId] {
			continue
		}
		err := stream.Send(&pb.StreamDequeueRequest{Message: &pb.StreamDequeueRequest_Hold{Hold: each.ref}})
		if err != nil {
			return known, err
		}
	}
	return known, nil
}

func (r *Runner) receive(stream dequeueStream, goingAway chan<- struct{}) time.Duration {
	var after time.Duration
	leaving := false
	for {
		message, err := stream.Recv()
		if err != nil {
			return after
		}
		if lost := message.GetLost(); lost != nil {
			r.holds.lose(lost.GetAttempt().GetAttemptId(), lost.GetStatus())
		}
		if away := message.GetGoAway(); away != nil && !leaving {
			after, leaving = away.GetReconnectAfter().AsDuration(), true
			close(goingAway)
		}
	}
}
