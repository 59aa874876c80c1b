package main

// options are the flags of the commands.
type options struct {
	native, uml, keep bool
	tor               string
	bin               string
	name              string
}
