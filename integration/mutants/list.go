package mutants

// All are the mutants, each a fault that somebody could make.
func All() []Mutant {
	return []Mutant{
		{
			Name: "lost release", Fault: "the end of a pod is not stored",
			File: "ipam/release.go", Old: "append(a.workloads.free(e, now), dropAssignment(e.Assignment, now))...", New: "a.workloads.free(e, now)...",
		},
		{
			Name: "recovery forgotten", Fault: "a lost database does not get back the pods that run",
			File: "agent/pods/recover.go", Old: "if len(wired) == 0 {", New: "if len(wired) >= 0 {",
		},
		{
			Name: "second machine believed", Fault: "the registry admits another machine with the name of a node",
			File: "ipam/machine.go", Old: "case h.same(by):\n\t\tnext =", New: "case true:\n\t\tnext =",
		},
		{
			Name: "resync forgotten", Fault: "the kernel's routes are never compared with the desired ones",
			File: "agent/learn.go", Old: "if _, err := l.fib.Resync(ctx); err != nil && ctx.Err() == nil {", New: "if err := ctx.Err(); err != nil {",
		},
		{
			Name: "sweep too early", Fault: "a restarted agent sweeps the routes of the run before, before its peers have sent theirs",
			File: "agent/sync.go", Old: "case !g.expects:", New: "case true:",
		},
		{
			Name: "restart not announced", Fault: "the agent negotiates no graceful restart",
			File: "bgp/gobgp/neighbor.go", Old: "Enabled: true, RestartTime: uint32(seconds(o.Restart.Time)), DeferralTime:", New: "Enabled: o.Restart.Time < 0, RestartTime: uint32(seconds(o.Restart.Time)), DeferralTime:",
		},
		{
			Name: "tunnel kept once", Fault: "a tunnel that another program deletes is not made anew",
			File: "agent/learn.go", Old: "renewed := l.plane.Ensure(ctx)", New: "if time.Since(l.sync.started) > 2*time.Second {\n\t\treturn false\n\t}\n\trenewed := l.plane.Ensure(ctx)",
		},
		{
			Name: "setting kept once", Fault: "a sysctl that another program changes is not set again",
			File: "agent/dataplane/host.go", Old: "\tname := dotted(s.name)\n\twas, err := h.set(s)", New: "\tname := dotted(s.name)\n\tif _, kept := h.resets[name]; kept {\n\t\treturn \"\"\n\t}\n\twas, err := h.set(s)",
		},
		{
			Name: "withdraws at its end", Fault: "an agent that ends withdraws its blocks, as if it did not come back",
			File: "agent/originate.go", Old: "case <-ctx.Done():\n\t\t\treturn nil\n\t\tcase <-o.alloc.Changed():", New: "case <-ctx.Done():\n\t\t\treturn o.speaker.SetOrigins(context.WithoutCancel(ctx), nil)\n\t\tcase <-o.alloc.Changed():",
		},
		{
			Name: "deaf to BFD", Fault: "a peer that BFD declares dead keeps its routes",
			File: "agent/liveness/liveness.go", Old: "return st.Independent || l.Speaker.IsUp(st.Session.Peer)", New: "return false",
		},
		{
			Name: "guard open", Fault: "tunnelled packets of machines that are no nodes are accepted",
			File: "nft/rules.go", Old: "b.rule(input, fam.is(), match, fam.outside(fam.src, nodes), drop())", New: "_, _ = nodes, input",
		},
	}
}
