#include "cli/commands.h"

/* In the order of a first day: set up, run, look, go back. */
const struct cli_command *const cli_commands[] = {
    &command_setup,
    &command_doctor,
    &command_serve,
    &command_status,
    &command_flush,
    &command_base,
    &command_history,
    &command_timeline,
    &command_diff,
    &command_pitr,
    &command_export,
    &command_restore_point_create,
    &command_restore_point_list,
    &command_tenant_list,
    &command_verify,
    &command_migrate,
    &command_teardown,
    NULL,
};
