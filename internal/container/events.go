package container

import (
	"context"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/event"
	"strata/internal/network"
)

// Emit keeps an event of the container. Attributes are names and values by turns. Who does the thing emits, when it is
// done and recorded.
func (s *Store) Emit(rec Record, action string, attributes ...string) {
	attributes = append(attributes, "image", rec.ImageName, "name", rec.Name)
	s.opt.Events.Emit(event.New(event.Container, action, rec.ID, rec.Config.Labels, attributes...))
}

func (s *Store) emitVolume(action, name string, attributes ...string) {
	s.opt.Events.Emit(event.New(event.Volume, action, name, nil, append(attributes, "driver", "local")...))
}

// emitNetworks tells that the container is in networks now, or no more.
func (s *Store) emitNetworks(action string, rec Record, all []network.Endpoint) {
	for _, e := range all {
		s.opt.Events.Emit(event.New(event.Network, action, e.NetworkID, nil, "container", rec.ID, "name", e.Network, "type", network.DriverBridge))
	}
}

// emitStart tells that a container runs, and before that has its volumes.
func (s *Store) emitStart(rec Record) {
	for _, v := range rec.Volumes {
		s.emitVolume("mount", v.Name, "container", rec.ID, "destination", v.Destination, "propagation", "", "read/write", strconv.FormatBool(!v.ReadOnly))
	}
	s.Emit(rec, "start")
}

func (s *Store) emitKill(rec Record, sig unix.Signal) {
	s.Emit(rec, "kill", "signal", strconv.Itoa(int(sig)))
}

// emitDie tells the end of a container that ran, from its final record, and that its volumes are free.
func (s *Store) emitDie(rec Record) {
	var ran time.Duration
	if st := rec.State; !st.StartedAt.IsZero() && st.FinishedAt.After(st.StartedAt) {
		ran = st.FinishedAt.Sub(st.StartedAt)
	}
	s.Emit(rec, "die", "exitCode", strconv.Itoa(rec.State.ExitCode), "execDuration", strconv.Itoa(int(ran/time.Second)))
	for _, v := range rec.Volumes {
		s.emitVolume("unmount", v.Name, "container", rec.ID)
	}
}

// destroy is [Store.forget] for a container that others may have seen.
func (s *Store) destroy(ctx context.Context, rec Record, volumes bool) error {
	if err := s.forget(ctx, rec, volumes); err != nil {
		return err
	}
	if !rec.Host.AutoRemove {
		if err := s.records.Sync(); err != nil {
			return err
		}
	}
	s.Emit(rec, "destroy")
	return nil
}

// execution emits the events of one exec.
type execution struct {
	s   *Store
	rec Record
	id  string
	cmd string
}

// newExecution emits that the command is about to be run.
func (s *Store) newExecution(rec Record, args []string) execution {
	e := execution{s, rec, newID(), commandLine(args)}
	s.Emit(rec, "exec_create: "+e.cmd, "execID", e.id)
	return e
}

func commandLine(args []string) string { return strings.Join(args, " ") }

func (e execution) started() { e.s.Emit(e.rec, "exec_start: "+e.cmd, "execID", e.id) }

// died tells the end, unless waiting for it was given up.
func (e execution) died(code int, err error) {
	if err != nil {
		return
	}
	e.s.Emit(e.rec, "exec_die", "execID", e.id, "exitCode", strconv.Itoa(code))
}
