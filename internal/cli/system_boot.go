package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/atomicfile"
	"strata/internal/container"
	"strata/internal/errdef"
)

func (a *app) systemStart() *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Start the containers whose restart policy wants them to run, as after the machine's start",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				due, err := s.Due(cmd.Context())
				errs := []error{err}
				for _, rec := range due {
					if _, err := s.Start(cmd.Context(), rec, container.StartOptions{}); err != nil {
						errs = append(errs, fmt.Errorf("container %s: %w", rec.Name, err))
						continue
					}
					fmt.Fprintln(a.out, rec.Name)
				}
				return errors.Join(errs...)
			})
		},
	}
}

func (a *app) systemStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop all containers, those that restart by themselves until the next start of the machine",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				stopped, err := s.StopAll(cmd.Context())
				for _, rec := range stopped {
					fmt.Fprintln(a.out, rec.Name)
				}
				return err
			})
		},
	}
}

func (a *app) systemUnit() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:   "unit [OPTIONS]",
		Short: "Print the systemd unit that starts containers with the machine, or install it",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			root, err := filepath.Abs(a.opts.Root)
			if err != nil {
				return err
			}
			user := os.Geteuid() != 0
			text, err := unitText(program, root, user)
			if err != nil || !install {
				fmt.Fprint(a.out, text)
				return err
			}
			return a.installUnit(text, user)
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write it where systemd looks for it")
	return cmd
}

// unitText is the unit: one that is done once the containers run, whose shims then stay in its control group. A plain user's
// is one of the user's own service manager.
func unitText(program, root string, user bool) (string, error) {
	if strings.ContainsAny(program+root, "\n\"\\%$") {
		return "", fmt.Errorf("paths %s and %s cannot stand in a unit: %w", program, root, errdef.ErrInvalid)
	}
	order, target := "Wants=network-online.target\nAfter=network-online.target local-fs.target\n", "multi-user.target"
	if user {
		order, target = "", "default.target"
	}
	return fmt.Sprintf(`[Unit]
Description=Containers of strata that are to run
%[1]sRequiresMountsFor="%[3]s"

[Service]
Type=oneshot
RemainAfterExit=yes
Delegate=yes
KillMode=process
TimeoutStopSec=120
ExecStart="%[2]s" --root "%[3]s" system start
ExecStop="%[2]s" --root "%[3]s" system stop

[Install]
WantedBy=%[4]s
`, order, program, root, target), nil
}

func (a *app) installUnit(text string, user bool) error {
	dir, control := "/etc/systemd/system", "systemctl"
	if user {
		config, err := os.UserConfigDir()
		if err != nil {
			return err
		}
		dir, control = filepath.Join(config, "systemd", "user"), "systemctl --user"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, "strata.service")
	if err := atomicfile.WriteDurable(file, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(a.out, file)
	fmt.Fprintf(a.err, "now: %s daemon-reload && %s enable --now strata.service\n", control, control)
	if user {
		fmt.Fprintln(a.err, "and, to run without being logged in: loginctl enable-linger")
	}
	return nil
}
