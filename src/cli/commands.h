/* commands.h: every command's row, for the table in commands.c. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct cli_command command_setup, command_doctor, command_teardown, command_migrate;
extern const struct cli_command command_serve, command_status, command_flush, command_base;
extern const struct cli_command command_pitr, command_history, command_diff, command_timeline;
extern const struct cli_command command_export, command_verify, command_tenant_list;
extern const struct cli_command command_restore_point_create, command_restore_point_list;

#endif
