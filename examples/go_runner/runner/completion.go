package runner

import (
	crand "crypto/rand"
	"encoding/hex"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// completion is what the store is told of an attempt that has ended.
func completion(ref *pb.AttemptRef, record *spanRecord, out outcome) *pb.CompleteAttemptRequest {
	request := &pb.CompleteAttemptRequest{
		RolloutId: ref.RolloutId, AttemptId: ref.AttemptId, LostSpanCount: record.lostCount(),
	}
	if out.err != nil {
		request.Outcome = &pb.CompleteAttemptRequest_Failure{Failure: failureOf(out.err)}
		return request
	}
	request.Outcome = &pb.CompleteAttemptRequest_Succeeded_{Succeeded: &pb.CompleteAttemptRequest_Succeeded{}}
	if out.reward != nil {
		// In the same transaction: an attempt that succeeded has its reward.
		request.Spans = []*pb.Span{rewardSpan(ref, record.nextNumber(), *out.reward, out)}
	}
	return request
}

func rewardSpan(ref *pb.AttemptRef, number int64, reward float64, out outcome) *pb.Span {
	now := timestamppb.Now()
	return &pb.Span{
		RolloutId:    ref.RolloutId,
		AttemptId:    ref.AttemptId,
		SequenceId:   number,
		TraceId:      out.root.TraceID().String(),
		SpanId:       newSpanID(),
		ParentSpanId: out.root.SpanID().String(),
		Name:         "agentlightning.annotation",
		StartTime:    now,
		EndTime:      now,
		Attributes: []*pb.Attribute{
			{Key: "agentlightning.reward.0.name", Value: &pb.AttributeValue{
				Value: &pb.AttributeValue_StringValue{StringValue: "primary"},
			}},
			{Key: "agentlightning.reward.0.value", Value: &pb.AttributeValue{
				Value: &pb.AttributeValue_DoubleValue{DoubleValue: reward},
			}},
		},
	}
}

func newSpanID() string {
	var id [8]byte
	_, _ = crand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}
