/* trainyard.c - the program that people type */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return ty_cli_main(argc, argv);
}
