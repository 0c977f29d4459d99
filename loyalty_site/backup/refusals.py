"""Why there is no backup, or no restored database. Each says so in one sentence."""


class BackupError(Exception):
    """What stops a backup or a restore. Nothing half done is left, but for the mark of a restore."""


class ClientFailed(BackupError):
    """This machine has no client program that fits the server, or the program failed."""


class FileRefused(BackupError):
    """The file cannot be written or is no backup of ours."""


class DatabaseNotEmpty(BackupError):
    """There are tables already, and a restore must not mix with them."""


class DatabaseUnproven(BackupError):
    """It was restored, and nobody knows whether it is whole."""
