package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/agent/logs"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// Logs are the levels of the agent's log: a [logs.Log].
type Logs interface {
	Levels() (configured slog.Level, parts []logs.Part)
	Set(level slog.Level, by string, during time.Duration, parts ...string) error
	Clear(by string, parts ...string) error
}

// maxLogTime is the longest time of a level, and configLevel the word for the level
// of the configuration.
const (
	maxLogTime  = 24 * time.Hour
	configLevel = "config"
)

// logLevels are the levels by their names in the configuration.
var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// GetLogLevels implements onlinkv1.RuntimeServer.
func (p process) GetLogLevels(context.Context, *onlinkv1.GetLogLevelsRequest) (*onlinkv1.LogLevels, error) {
	return p.logLevels(), nil
}

// SetLogLevel implements onlinkv1.RuntimeServer.
func (p process) SetLogLevel(ctx context.Context, r *onlinkv1.SetLogLevelRequest) (*onlinkv1.LogLevels, error) {
	level, known := logLevels[r.GetLevel()]
	back := r.GetLevel() == configLevel
	during := r.GetLasts().AsDuration()
	switch {
	case !known && !back:
		return nil, status.Errorf(codes.InvalidArgument, "level: %.40q is none: use debug, info, warn, error, or config for the configuration's", r.GetLevel())
	case during < 0 || during > maxLogTime || back && during > 0:
		return nil, status.Errorf(codes.InvalidArgument, "lasts: %v: use more than 0s and at most %v, and none with the level config", during, maxLogTime)
	}
	target := strings.Join(r.GetParts(), ",")
	if target == "" {
		target = "all"
	}
	_, err := p.s.Audit.record(ctx, ipam.AuditLogLevel, fmt.Sprintf("%.200s=%s", target, r.GetLevel()), func() ([]ipam.Block, error) {
		if back {
			return nil, p.s.Logs.Clear(caller(ctx), r.GetParts()...)
		}
		return nil, p.s.Logs.Set(level, caller(ctx), during, r.GetParts()...)
	})
	switch {
	case errors.Is(err, logs.ErrUnknownPart):
		return nil, status.Error(codes.InvalidArgument, "parts: "+err.Error())
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	return p.logLevels(), nil
}

func (p process) logLevels() *onlinkv1.LogLevels {
	configured, parts := p.s.Logs.Levels()
	rep := &onlinkv1.LogLevels{Configured: strings.ToLower(configured.String())}
	for _, part := range parts {
		one := &onlinkv1.LogLevel{Part: part.Name, Level: strings.ToLower(part.Level.String())}
		if part.Set != nil {
			one.By = part.Set.By
			if !part.Set.Until.IsZero() {
				one.Until = timestamppb.New(part.Set.Until)
			}
		}
		rep.Parts = append(rep.Parts, one)
	}
	return rep
}
