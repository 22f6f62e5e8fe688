package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pomerium/pomerium/pkg/grpc/databroker"
	"github.com/pomerium/pomerium/pkg/grpc/health"
	"github.com/pomerium/pomerium/pkg/grpc/registry"
)

// services stand beside the records.
func services(ctx context.Context, conn *grpc.ClientConn) {
	place := &registry.Service{Kind: registry.ServiceKind_CONSOLE, Endpoint: "https://console.example.com"}
	registered(ctx, registry.NewRegistryClient(conn), place)
	healthy(ctx, health.NewHealthNotifierClient(conn))
	about(ctx, databroker.NewDataBrokerServiceClient(conn))
	standing(ctx, conn)
}

func registered(ctx context.Context, client registry.RegistryClient, place *registry.Service) {
	kinds := &registry.ListRequest{Kinds: []registry.ServiceKind{place.Kind}}
	watch, err := client.Watch(ctx, kinds)
	check("to watch services", err)
	first, err := watch.Recv()
	check("the services so far", err)
	expect("no service yet", len(first.Services) == 0, first)
	reported, err := client.Report(ctx, &registry.RegisterRequest{Services: []*registry.Service{place}})
	check("to report a service", err)
	expect("when to report again", reported.CallBackAfter.AsDuration() > 0, reported)
	second, err := watch.Recv()
	check("the services now", err)
	expect("a service that came", len(second.Services) == 1 && proto.Equal(second.Services[0], place), second)
	listed, err := client.List(ctx, kinds)
	check("to list services", err)
	expect("the services", proto.Equal(listed, second), listed)
}

func healthy(ctx context.Context, client health.HealthNotifierClient) {
	stream, err := client.SyncHealth(ctx, new(health.HealthStreamRequest))
	check("to follow the health", err)
	now, err := stream.Recv()
	check("the health", err)
	expect("the health", now.OverallStatus == health.OverallStatus_OVERALL_STATUS_RUNNING && len(now.Statuses) > 0, now)
}

func about(ctx context.Context, client databroker.DataBrokerServiceClient) {
	info, err := client.ServerInfo(ctx, new(emptypb.Empty))
	check("the server", err)
	latest := info.LatestRecordVersion
	expect("the server", info.ServerVersion != 0 && latest > info.EarliestRecordVersion, info)
	options := &databroker.Options{Capacity: proto.Uint64(7)}
	_, err = client.SetOptions(ctx, &databroker.SetOptionsRequest{Type: "example.com/Interop", Options: options})
	check("to set options", err)
	read, err := client.GetOptions(ctx, &databroker.GetOptionsRequest{Type: "example.com/Interop"})
	check("the options", err)
	expect("the options", read.Options.GetCapacity() == 7, read)
	// Whoever knows another server begins anew.
	stream, err := client.Sync(ctx, &databroker.SyncRequest{ServerVersion: info.ServerVersion + 1})
	check("to follow", err)
	_, err = stream.Recv()
	expect("another server's place", status.Code(err) == codes.Aborted, err)
	types, err := client.ListTypes(ctx, new(emptypb.Empty))
	check("the types", err)
	expect("the types", len(types.Types) >= 3, types)
}

// standing is where a databroker that follows others has got to; one that leads has nowhere to go.
func standing(ctx context.Context, conn *grpc.ClientConn) {
	ctx = databroker.WithOutgoingClusterRequestMode(ctx, databroker.ClusterRequestModeLocal)
	place, err := databroker.NewCheckpointServiceClient(conn).GetCheckpoint(ctx, new(databroker.GetCheckpointRequest))
	check("the checkpoint", err)
	expect("the checkpoint", place.IsLeader, place)
}
