// This file keeps the module around it from compiling the files beside it. They
// are new files of the BGP engine, each at its path in the engine's module, and
// compile there: make engine-edit.
module github.com/osrg/gobgp/v3

go 1.26.0
