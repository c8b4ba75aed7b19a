package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const soonThere = 2 * time.Second

// An Agent works at one task and returns its reward, nil when it has none.
//
// Its context ends when the attempt is lost, out of time or stopped (ErrLost, ErrTimeout, ErrStopped); what it returns
// then does not count, and it is to return soon: Go can interrupt nobody. Spans that are started from its context are
// recorded as the attempt's. An error or a panic is the agent's failure unless it is one of Infrastructure.
type Agent func(ctx context.Context, task *Task) (reward *float64, err error)

// A Runner runs an agent for the rollouts of a store.
type Runner struct {
	config    Config
	agent     Agent
	log       *slog.Logger
	conn      *grpc.ClientConn
	store     pb.StoreServiceClient
	holds     *holds
	slots     slots
	resources *resourceCache
	spans     *spanProcessor
	tracers   *sdktrace.TracerProvider
	exporter  sdktrace.SpanExporter
	draining  chan struct{}
	drainOnce sync.Once
}

// New makes a runner, which connects to its store when it runs.
func New(config Config, agent Agent) (*Runner, error) {
	config = config.withDefaults()
	conn, err := connect(config.Store)
	if err != nil {
		return nil, fmt.Errorf("connecting to the store: %w", err)
	}
	store := pb.NewStoreServiceClient(conn)
	return &Runner{
		config:    config,
		agent:     agent,
		log:       config.Logger,
		conn:      conn,
		store:     store,
		holds:     newHolds(),
		slots:     newSlots(config.Concurrency),
		resources: newResourceCache(store),
		spans:     &spanProcessor{},
		tracers:   config.TracerProvider,
		draining:  make(chan struct{}),
	}, nil
}

// Drain lets Run take no more rollouts, and return once those that run have finished.
func (r *Runner) Drain() {
	r.drainOnce.Do(func() {
		r.log.Info("taking no more rollouts, and finishing those that run")
		close(r.draining)
	})
}

// Run runs rollouts as they come; it is called once. It returns after Drain or Config.MaxRollouts with nil, when ctx
// ends with its cause, and with a *StoreError when the store refuses to give any. Where ctx ends, what runs is given
// up: reported as an infrastructure failure and delivered again. A store that is away is waited for.
func (r *Runner) Run(ctx context.Context) error {
	defer r.conn.Close()
	exporter, err := newExporter(ctx, r.conn)
	if err != nil {
		return fmt.Errorf("starting the exporter of spans: %w", err)
	}
	defer exporter.Shutdown(context.WithoutCancel(ctx))
	r.exporter = exporter
	defer r.joinTracers()()

	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var watchers sync.WaitGroup
	watchers.Go(func() { r.heartbeat(background) })
	watchers.Go(func() { r.hearOfLosses(background) })
	watchers.Go(func() { r.sayIfAway(background) })
	defer watchers.Wait()
	defer stopBackground()

	claiming, stopClaiming := context.WithCancel(ctx)
	defer stopClaiming()
	go func() {
		select {
		case <-r.draining:
			stopClaiming()
		case <-claiming.Done():
		}
	}()
	var attempts sync.WaitGroup
	err = r.claim(claiming, func(assignment *pb.Assignment) {
		attempts.Go(func() {
			defer r.slots.give(1)
			r.attempt(ctx, assignment)
		})
	})
	attempts.Wait()
	if err != nil {
		return fmt.Errorf("taking rollouts: %w", err)
	}
	return context.Cause(ctx)
}

// sayIfAway says once that a store is not there: waiting for it would look the same as having nothing to do.
func (r *Runner) sayIfAway(ctx context.Context) {
	r.log.Info("taking rollouts", "queue", r.config.Queue, "store", r.conn.Target())
	ctx, cancel := context.WithTimeout(ctx, soonThere)
	defer cancel()
	for state := r.conn.GetState(); state != connectivity.Ready; state = r.conn.GetState() {
		if !r.conn.WaitForStateChange(ctx, state) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				r.log.Warn("waiting for the store, which is not there", "store", r.conn.Target())
			}
			return
		}
	}
}

// joinTracers has the spans of the provider recorded, and gives what undoes that.
func (r *Runner) joinTracers() func() {
	if r.tracers == nil {
		// Without limits, so that neither their defaults nor OTEL_* variables take anything from what is learnt from.
		everything := sdktrace.SpanLimits{
			AttributeValueLengthLimit: -1, AttributeCountLimit: -1, EventCountLimit: -1, LinkCountLimit: -1,
			AttributePerEventCountLimit: -1, AttributePerLinkCountLimit: -1,
		}
		r.tracers = sdktrace.NewTracerProvider(
			sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithRawSpanLimits(everything))
	}
	r.tracers.RegisterSpanProcessor(r.spans)
	return func() { r.tracers.UnregisterSpanProcessor(r.spans) }
}
