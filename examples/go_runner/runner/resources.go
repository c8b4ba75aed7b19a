package runner

import (
	"context"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

const remembered = 64

type version struct {
	id     string
	number int64
}

// resourceCache fetches each version of resources once, as it never changes, and remembers the last ones.
type resourceCache struct {
	store pb.StoreServiceClient
	turn  chan struct{} // a mutex that can be waited for no longer than a context
	known map[version]*pb.Resources
	order []version
}

func newResourceCache(store pb.StoreServiceClient) *resourceCache {
	return &resourceCache{store: store, turn: make(chan struct{}, 1), known: map[version]*pb.Resources{}}
}

func (c *resourceCache) get(ctx context.Context, rollout *pb.Rollout) (*pb.Resources, error) {
	key := version{rollout.GetResourcesId(), rollout.GetResourcesVersion()}
	if key.id == "" {
		return nil, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if found := c.known[key]; found != nil {
		return found, nil
	}
	request := &pb.GetResourcesRequest{ResourcesId: key.id, Version: key.number}
	answer, err := repeat(ctx, callTimeout, func(ctx context.Context) (*pb.GetResourcesResponse, error) {
		return c.store.GetResources(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	if key.number != 0 { // else it is the last one, which the next call may find another
		c.remember(key, answer.GetResources())
	}
	return answer.GetResources(), nil
}

func (c *resourceCache) remember(key version, resources *pb.Resources) {
	c.known[key] = resources
	if c.order = append(c.order, key); len(c.order) > remembered {
		delete(c.known, c.order[0])
		c.order = c.order[1:]
	}
}
