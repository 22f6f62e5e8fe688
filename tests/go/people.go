package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pomerium/pomerium/pkg/grpc/databroker"
	"github.com/pomerium/pomerium/pkg/grpc/device"
	"github.com/pomerium/pomerium/pkg/grpc/session"
	"github.com/pomerium/pomerium/pkg/grpc/user"
)

// people have sessions, service accounts and devices.
func people(ctx context.Context, client databroker.DataBrokerServiceClient) {
	s := session.Create("idp", "s2", "u1", time.Now(), time.Hour)
	s.IdToken = &session.IDToken{Raw: "a token"}
	_, err := session.Put(ctx, client, s)
	check("put of a session", err)
	s.AccessedAt = timestamppb.New(time.Now().Add(time.Minute))
	s.UserId = "left alone"
	_, err = session.Patch(ctx, client, s, &fieldmaskpb.FieldMask{Paths: []string{"accessed_at"}})
	check("patch of a session", err)
	read, err := session.Get(ctx, client, "s2")
	check("get of a session", err)
	expect("a session", read.UserId == "u1" && read.IdToken.GetRaw() == "a token" && read.Validate() == nil &&
		read.AccessedAt.AsTime().Equal(s.AccessedAt.AsTime()), read)
	check("delete of a session", session.Delete(ctx, client, "s2"))
	_, err = session.Get(ctx, client, "s2")
	expect("a session that ended", status.Code(err) == codes.NotFound, err)

	_, err = user.PutServiceAccount(ctx, client, &user.ServiceAccount{Id: "a1", UserId: "u1"})
	check("put of a service account", err)
	account, err := user.GetServiceAccount(ctx, client, "a1")
	check("get of a service account", err)
	expect("a service account", account.UserId == "u1" && account.Validate() == nil, account)

	check("put of a device", device.PutCredential(ctx, client, &device.Credential{
		Id: "c1", TypeId: "any", EnrollmentId: "e1", UserId: "u1",
		Specifier: &device.Credential_Webauthn{Webauthn: &device.Credential_WebAuthn{Id: []byte{1, 2}, PublicKey: []byte{3}}},
	}))
	credential, err := device.GetCredential(ctx, client, "c1")
	check("get of a device", err)
	expect("a device", credential.UserId == "u1" && len(credential.GetWebauthn().GetPublicKey()) == 1, credential)
	check("put of an enrolment", device.PutEnrollment(ctx, client, &device.Enrollment{Id: "e1", CredentialId: "c1"}))
	_, err = device.DeleteEnrollment(ctx, client, "e1")
	check("delete of an enrolment", err)
	_, err = device.GetEnrollment(ctx, client, "e1")
	expect("an enrolment that ended", status.Code(err) == codes.NotFound, err)
}
