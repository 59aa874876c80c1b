package admin

import (
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/config"
)

// Bounds of the details of an error, which go into the headers of the answer beside
// its text.
const (
	maxViolations = 100
	maxViolation  = 512 // bytes of each description
)

// invalid returns an error with the mistakes of a configuration by field, as
// google.rpc.BadRequest has them: a program that made the text from objects finds
// the object of each.
func invalid(text string, err error) error {
	st := status.New(codes.InvalidArgument, text)
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return st.Err()
	}
	bad := &errdetails.BadRequest{}
	for _, m := range mistakes[:min(len(mistakes), maxViolations)] {
		description := m.Text
		if len(description) > maxViolation {
			description = strings.ToValidUTF8(description[:maxViolation], "") + " ..."
		}
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: m.Field, Description: strings.ToValidUTF8(description, "")})
	}
	if detailed, err := st.WithDetails(bad); err == nil {
		st = detailed
	}
	return st.Err()
}
