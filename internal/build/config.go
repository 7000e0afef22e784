package build

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"strata/internal/oci"
)

// configure applies an instruction that changes the config only.
func (p *planner) configure(s *stage, c instructions.Command, lint *linter.Linter) error {
	cfg := &s.out.Image.Config
	text := ""
	switch c := c.(type) {
	case *instructions.EnvCommand:
		text = "ENV" + s.setEnv(c.Env)
	case *instructions.LabelCommand:
		text = "LABEL" + setLabels(cfg, c.Labels)
	case *instructions.MaintainerCommand:
		s.out.Image.Author = c.Maintainer
		text = "MAINTAINER " + c.Maintainer
	case *instructions.CmdCommand:
		s.usedOnce(c, lint)
		cfg.Cmd, cfg.ArgsEscaped = s.commandLine(c, c.ShellDependantCmdLine, lint), true
		text = fmt.Sprintf("CMD %q", cfg.Cmd)
	case *instructions.EntrypointCommand:
		s.usedOnce(c, lint)
		cfg.Entrypoint = s.commandLine(c, c.ShellDependantCmdLine, lint)
		if s.seen["cmd"] == nil {
			// The inherited arguments were for the inherited program.
			cfg.Cmd = nil
		}
		text = fmt.Sprintf("ENTRYPOINT %q", cfg.Entrypoint)
	case *instructions.HealthCheckCommand:
		s.usedOnce(c, lint)
		cfg.Healthcheck = &oci.Healthcheck{
			Test: c.Health.Test, Interval: c.Health.Interval, Timeout: c.Health.Timeout,
			StartPeriod: c.Health.StartPeriod, StartInterval: c.Health.StartInterval, Retries: c.Health.Retries,
		}
		text = fmt.Sprintf("HEALTHCHECK %+v", *cfg.Healthcheck)
	case *instructions.ExposeCommand:
		ports, err := p.expose(s, c, lint)
		if err != nil {
			return err
		}
		text = fmt.Sprintf("EXPOSE %v", ports)
	case *instructions.UserCommand:
		cfg.User = c.User
		text = "USER " + c.User
	case *instructions.VolumeCommand:
		if err := setVolumes(cfg, c.Volumes); err != nil {
			return err
		}
		text = fmt.Sprintf("VOLUME %v", c.Volumes)
	case *instructions.StopSignalCommand:
		if err := checkSignal(c.Signal); err != nil {
			return err
		}
		cfg.StopSignal = c.Signal
		text = "STOPSIGNAL " + c.Signal
	case *instructions.ShellCommand:
		cfg.Shell = c.Shell
		text = fmt.Sprintf("SHELL %v", c.Shell)
	case *instructions.OnbuildCommand:
		cfg.OnBuild = append(cfg.OnBuild, c.Expression)
		return nil
	default:
		return fmt.Errorf("instruction %s cannot stand here", strings.ToUpper(c.Name()))
	}
	p.history(s, text, true)
	return nil
}

// usedOnce warns of a second CMD, ENTRYPOINT or HEALTHCHECK, at the place of the one that is lost.
func (s *stage) usedOnce(c instructions.Command, lint *linter.Linter) {
	key := strings.ToLower(c.Name())
	if before := s.seen[key]; before != nil {
		lint.Run(&linter.RuleMultipleInstructionsDisallowed, before, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	s.seen[key] = c.Location()
}

// commandLine is CMD's or ENTRYPOINT's argument list, in shell form with the shell in front.
func (s *stage) commandLine(c instructions.Command, line instructions.ShellDependantCmdLine, lint *linter.Linter) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	if len(s.out.Image.Config.Shell) == 0 {
		lint.Run(&linter.RuleJSONArgsRecommended, c.Location(), linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
	return withShell(s, line.CmdLine)
}

// setEnv sets variables in the config and in the scope.
func (s *stage) setEnv(pairs instructions.KeyValuePairs) (text string) {
	cfg := &s.out.Image.Config
	for _, kv := range pairs {
		s.env.Set(kv.Key, kv.Value)
		cfg.Env = putEnv(cfg.Env, kv.Key, kv.Value)
		text += " " + kv.String()
	}
	return text
}

// putEnv sets a variable where it stands, else at the end.
func putEnv(env []string, key, value string) []string {
	for i, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func setLabels(cfg *oci.Config, pairs instructions.KeyValuePairs) (text string) {
	if cfg.Labels == nil {
		cfg.Labels = make(map[string]string, len(pairs))
	}
	for _, kv := range pairs {
		cfg.Labels[kv.Key] = kv.Value
		text += " " + kv.String()
	}
	return text
}

func setVolumes(cfg *oci.Config, volumes []string) error {
	if cfg.Volumes == nil {
		cfg.Volumes = make(map[string]struct{}, len(volumes))
	}
	for _, v := range volumes {
		if v == "" {
			return fmt.Errorf("VOLUME names nothing: its variables are empty")
		}
		cfg.Volumes[v] = struct{}{}
	}
	return nil
}
