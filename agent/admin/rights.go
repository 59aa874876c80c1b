package admin

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"onlink/internal/identity"
	onlinkv1 "onlink/proto/v1"
)

// right says who may call a method.
type right struct {
	roles []identity.Role
	// heavy methods make large answers: few of them run at once.
	heavy bool
	// changes reports whether a request changes something though the method reads:
	// it needs the roles of writes then. nil: none does.
	changes func(req any) bool
}

var (
	reads  = []identity.Role{identity.Viewer, identity.Operator}
	writes = []identity.Role{identity.Operator}
	asks   = []identity.Role{identity.Viewer, identity.Operator, identity.Node}
)

// rights has every method of the sockets: one without a row is denied to all. A node
// calls the block registry, and here it asks for its explanations alone.
var rights = map[string]right{
	onlinkv1.Admin_GetStatus_FullMethodName:         {roles: reads},
	onlinkv1.Admin_WatchStatus_FullMethodName:       {roles: reads},
	onlinkv1.Admin_ListPeers_FullMethodName:         {roles: reads, heavy: true},
	onlinkv1.Admin_GetPeer_FullMethodName:           {roles: reads, heavy: true},
	onlinkv1.Admin_ListPeerRoutes_FullMethodName:    {roles: reads},
	onlinkv1.Admin_ListRoutes_FullMethodName:        {roles: reads, heavy: true},
	onlinkv1.Admin_ListBlocks_FullMethodName:        {roles: reads, heavy: true},
	onlinkv1.Nodes_ListNodes_FullMethodName:         {roles: reads, heavy: true},
	onlinkv1.Admin_ListPools_FullMethodName:         {roles: reads},
	onlinkv1.Admin_ListNamespaces_FullMethodName:    {roles: reads},
	onlinkv1.Admin_ListAnnouncements_FullMethodName: {roles: reads, heavy: true},
	onlinkv1.Admin_ShowIPAM_FullMethodName:          {roles: reads, heavy: true},
	onlinkv1.Admin_AuditIPAM_FullMethodName:         {roles: reads},
	onlinkv1.Admin_GetConfig_FullMethodName:         {roles: reads},
	onlinkv1.Admin_TestPolicy_FullMethodName:        {roles: reads},
	onlinkv1.Admin_Explain_FullMethodName:           {roles: reads},
	onlinkv1.Runtime_GetLogLevels_FullMethodName:    {roles: reads},
	onlinkv1.Nodes_ExplainHere_FullMethodName:       {roles: asks, heavy: true},
	onlinkv1.Admin_CheckIPAM_FullMethodName: {roles: reads, heavy: true, changes: func(req any) bool {
		r, ok := req.(*onlinkv1.CheckIPAMRequest)
		return ok && r.GetRepair()
	}},

	onlinkv1.Admin_ControlPeer_FullMethodName:    {roles: writes},
	onlinkv1.Admin_Drain_FullMethodName:          {roles: writes},
	onlinkv1.Admin_Undrain_FullMethodName:        {roles: writes},
	onlinkv1.Admin_ChangeConfig_FullMethodName:   {roles: writes},
	onlinkv1.Admin_ReloadConfig_FullMethodName:   {roles: writes},
	onlinkv1.Admin_Confirm_FullMethodName:        {roles: writes},
	onlinkv1.Runtime_SetLogLevel_FullMethodName:  {roles: writes},
	onlinkv1.Admin_Announce_FullMethodName:       {roles: writes},
	onlinkv1.Admin_SetNamespaces_FullMethodName:  {roles: writes},
	onlinkv1.Admin_ReleaseAddress_FullMethodName: {roles: writes},
	onlinkv1.Admin_ReleaseNode_FullMethodName:    {roles: writes},
	onlinkv1.Admin_TakeOverNode_FullMethodName:   {roles: writes},
	// More than any of the reads shows, though without secrets.
	onlinkv1.Runtime_CollectDiags_FullMethodName: {roles: writes},
	// The database as a whole: more than any of the reads shows.
	onlinkv1.Admin_BackupIPAM_FullMethodName: {roles: writes},

	healthv1.Health_Check_FullMethodName: {roles: reads},
	healthv1.Health_List_FullMethodName:  {roles: reads},
	healthv1.Health_Watch_FullMethodName: {roles: reads},

	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      {roles: reads},
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: {roles: reads},
}

// may returns why a caller may not call a method; nil: it may. The error has the role
// that is needed.
func (v *visitor) may(method string) error {
	r, ok := rights[method]
	switch {
	case len(v.ids) == 0:
		return v.denied(method, v.without)
	case !ok:
		return v.denied(method, "no role permits it")
	case !identity.Has(v.ids, r.roles...):
		return v.denied(method, "it needs the role "+identity.Either(r.roles))
	}
	return nil
}

// mayChange is may for a request that changes something.
func (v *visitor) mayChange(method string) error {
	if identity.Has(v.ids, writes...) {
		return nil
	}
	return v.denied(method, "a request that changes something needs the role "+identity.Either(writes))
}

func (v *visitor) denied(method, why string) error {
	return status.Error(codes.PermissionDenied, fmt.Sprintf("%s may not call %s: %s", v.name, shortMethod(method), why))
}

// shortMethod writes /onlink.v1.Admin/Drain as Admin.Drain.
func shortMethod(full string) string {
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service[strings.LastIndexByte(service, '.')+1:] + "." + method
}
